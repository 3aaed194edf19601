"""Two processes that share a run come to what one process comes to, up to rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lossbench.data.cache import CachedSplit, open_split
from lossbench.errors import ConfigError
from lossbench.losses import CrossEntropyLoss
from lossbench.protocol import Protocol
from lossbench.training.ranks import Ranks, micro_batches, positions
from tests.training.sharedruns import RUNS, WORLD, alone, result, scored, trained
from tests.training.test_loop import Noise

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def split(folder: Path) -> CachedSplit:
    return open_split(Noise(), "train", cache_root=folder / "cache")


@pytest.fixture(scope="module")
def made(folder: Path, split: CachedSplit) -> dict[str, Any]:
    """What two ranks made of every run."""
    command = [sys.executable, "-m", "tests.training.sharedruns", str(folder)]
    root = Path(__file__).parents[2]
    processes = [subprocess.Popen([*command, str(rank)], cwd=root) for rank in range(WORLD)]
    try:
        assert [process.wait(300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    found: dict[str, Any] = torch.load(folder / "made.pt", weights_only=True)
    return found


def is_statistic(name: str) -> bool:
    return "running_" in name or name.endswith("num_batches_tracked")


@pytest.mark.parametrize("name", RUNS)
def test_weights_are_those_of_one_process(made: dict[str, Any], split: CachedSplit, name: str) -> None:
    mine, shared = result(alone(split, name)), made[name]
    synchronised = RUNS[name][2].get("sync_batchnorm", False)
    for key, value in mine["model"].items():
        if synchronised or not is_statistic(key):
            torch.testing.assert_close(shared["model"][key], value, rtol=2e-4, atol=1e-5, msg=lambda m, k=key: k + m)
    np.testing.assert_allclose(shared["curve"]["loss"], mine["curve"]["loss"], rtol=1e-4)
    assert shared["curve"]["step"] == mine["curve"]["step"]
    assert shared["diagnostics"] == mine["diagnostics"]
    if name == "learned":
        torch.testing.assert_close(shared["loss"]["scale"], mine["loss"]["scale"], rtol=1e-4, atol=1e-6)
        assert not torch.equal(mine["loss"]["scale"], torch.ones(3))


def test_what_nothing_uses_stays_as_it_was(made: dict[str, Any], split: CachedSplit) -> None:
    """Weight decay moves only what has a gradient, if only a zero."""
    fresh = trained(split, CrossEntropyLoss(), 0.5, {}).model.state_dict()
    assert torch.equal(made["ce"]["model"]["unused.weight"], fresh["unused.weight"])
    assert not torch.equal(made["ce"]["model"]["last.weight"], fresh["last.weight"])


def test_statistics_that_are_not_synchronised_are_the_mean_of_the_ranks(
    made: dict[str, Any], split: CachedSplit
) -> None:
    """Of a first layer: its mean over a batch is the mean of those over the halves."""
    whole = trained(split, CrossEntropyLoss(), 0.5, {"iterations": 1})
    assert whole.run()
    mine, shared = whole.model.state_dict(), made["ce, one step"]["model"]
    torch.testing.assert_close(shared["encoder.1.running_mean"], mine["encoder.1.running_mean"], rtol=1e-5, atol=1e-7)
    assert int(shared["encoder.1.num_batches_tracked"]) == 1


def test_scores_are_those_of_one_process_bit_for_bit(made: dict[str, Any], split: CachedSplit) -> None:
    trainer = trained(split, CrossEntropyLoss(), 0.5, {})
    trainer.model.load_state_dict(made["scored"]["model"])
    found = scored(split, trainer)
    assert np.array_equal(found.confusion, made["scored"]["confusion"].numpy())
    assert found.extra == made["scored"]["extra"]
    assert sum(found.extra["calibration"]["pixels"]) == found.confusion.sum()
    assert np.array_equal(found.per_image, made["scored"]["per_image"].numpy())
    assert len(np.unique(found.per_image)) > 10


def test_all_stop_when_the_first_is_asked_and_go_on_bit_for_bit(made: dict[str, Any]) -> None:
    assert made["stopped at"] == 5
    for key, value in made["ce"]["model"].items():
        assert torch.equal(made["resumed"]["model"][key], value), key
    assert made["resumed"]["curve"] == made["ce"]["curve"]


def test_a_checkpoint_of_two_goes_on_alone_and_with_split_micro_batches(
    made: dict[str, Any], split: CachedSplit, folder: Path
) -> None:
    for how, settings in (({"split": 1}, {"accumulate": 2}), ({"split": 2}, {})):
        trainer = trained(split, CrossEntropyLoss(), 0.5, settings, **how)
        trainer.load_state(torch.load(folder / "stopped.pt", weights_only=True))
        assert trainer.run()
        for key, value in trainer.model.state_dict().items():
            if not is_statistic(key):
                torch.testing.assert_close(made["ce"]["model"][key], value, rtol=2e-4, atol=1e-5)


def test_a_run_that_one_rank_sees_diverge_has_diverged_and_a_broken_loss_is_blamed(made: dict[str, Any]) -> None:
    assert made["exploded"]["diverged"].startswith("diverged at step ")
    assert "'mine' returned nan at step 2 for finite logits" in made["blamed"]


# --- sharing out ---


class Rank(Ranks):
    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world


def test_split_micro_batches_are_accumulated_ones_bit_for_bit(split: CachedSplit) -> None:
    halves, parts = (
        trained(split, CrossEntropyLoss(), 0.5, {"accumulate": accumulate}, split=how)
        for accumulate, how in ((2, 2), (4, 1))
    )
    assert halves.run()
    assert parts.run()
    for key, value in parts.model.state_dict().items():
        assert torch.equal(halves.model.state_dict()[key], value), key


def test_the_ranks_parts_are_the_batch_each_image_once() -> None:
    protocol = Protocol(batch_size=12, accumulate=2)
    parts = [positions(protocol, ranks=Rank(rank, 3)) for rank in range(3)]
    assert parts == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert positions(protocol) is None


def test_a_batch_that_cannot_be_shared_out_is_the_users_mistake() -> None:
    assert micro_batches(Protocol(batch_size=8, accumulate=2), split=2, world=2) == 4
    with pytest.raises(ConfigError, match=r"4 images a step in 2 micro-batches .* among 4 devices") as caught:
        micro_batches(Protocol(batch_size=4), split=2, world=4)
    assert caught.value.hint == "make batch_size a multiple of 8, or lower resources.gpus"
    with pytest.raises(ConfigError, match="6 images a step in 4 micro-batches cannot be shared out evenly"):
        micro_batches(Protocol(batch_size=6, accumulate=2), split=2)
