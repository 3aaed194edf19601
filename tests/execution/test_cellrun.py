"""Whole cells in this process: what is equal must be equal bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lossbench import metrics
from lossbench.cells import Cell
from lossbench.execution.cellrun import CellRun
from lossbench.records import Record
from tests.execution.cellfactory import make_cell, make_spec


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Callable[..., Record]:
    def run_cell(cell: Cell, where: str = "a", **fields: Any) -> Record:
        outcome = CellRun(make_spec(cell, tmp_path / where, cache, **fields)).run()
        assert outcome is not None
        record, per_image, names = outcome
        assert len(per_image) == len(names) == 6
        return record

    return run_cell


def weights(record: Record) -> str:
    return str(record.provenance["weights_sha256"])


def initial(record: Record) -> str:
    return str(record.provenance["initial_weights_sha256"])


def test_the_same_cell_twice_gives_the_same_bits(run: Callable[..., Record]) -> None:
    first, second = run(make_cell(), "a"), run(make_cell(), "b")
    assert weights(first) == weights(second)
    assert np.array_equal(first.confusion, second.confusion)
    assert first.curve == second.curve
    assert first.id == second.id


@pytest.mark.parametrize("backbone", [{}, {"dropout": 0.5}])
def test_cdfl_at_omega_zero_is_cross_entropy_bit_for_bit(run: Callable[..., Record], backbone: dict[str, Any]) -> None:
    ce = run(make_cell("ce", backbone=backbone))
    cdfl = run(make_cell("cdfl", omega=0.0, backbone=backbone))
    assert cdfl.costs["extra_forwards"] == 5
    assert weights(ce) == weights(cdfl)
    assert np.array_equal(ce.confusion, cdfl.confusion)


def test_other_losses_do_differ(run: Callable[..., Record]) -> None:
    assert weights(run(make_cell("ce"))) != weights(run(make_cell("cdfl", omega=1.0)))


def test_competitors_start_from_the_same_weights_and_seeds_do_not(run: Callable[..., Record]) -> None:
    ce, lovasz, other = run(make_cell("ce")), run(make_cell("lovasz_softmax")), run(make_cell("ce", seed=1))
    assert initial(ce) == initial(lovasz) != initial(other)
    assert weights(ce) != weights(lovasz)


@pytest.mark.parametrize("stop_at", [1, 5])
@pytest.mark.parametrize("loss", ["ce", "cdfl"])
def test_interrupted_and_resumed_is_uninterrupted(
    run: Callable[..., Record], tmp_path: Path, cache: Path, stop_at: int, loss: str
) -> None:
    cell = make_cell(loss, protocol={"accumulate": 2, "eval_every": 4})
    asked = iter(range(100))
    stopped = CellRun(make_spec(cell, tmp_path / "r", cache), should_stop=lambda: next(asked) >= stop_at)
    assert stopped.run() is None
    assert stopped.checkpoint_file.is_file()
    resumed, whole = run(cell, "r"), run(cell, "w")
    assert weights(resumed) == weights(whole)
    assert resumed.curve == whole.curve
    np.testing.assert_equal(resumed.diagnostics, whole.diagnostics)  # NaN where a class is absent
    assert np.array_equal(resumed.confusion, whole.confusion)
    assert resumed.notes == [f"resumed from a checkpoint at step {stop_at}"]
    assert initial(resumed) == initial(whole)


MINE = """
from lossbench.losses.ce import CrossEntropyLoss
from lossbench.registry import register_loss

@register_loss("mine")
class Mine(CrossEntropyLoss):
    "Mine."
"""


def test_a_checkpoint_of_other_code_is_not_gone_on_from(
    run: Callable[..., Record], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(MINE)
    cell = make_cell("mine", plugins=(plugin,))
    asked = iter(range(100))
    spec = make_spec(cell, tmp_path / "r", cache, plugins=(plugin,))
    assert CellRun(spec, should_stop=lambda: next(asked) >= 3).run() is None
    plugin.write_text(MINE + "# edited")
    record = run(cell, "r", plugins=(plugin,))
    assert "starting anew" in capsys.readouterr().out
    assert record.notes == []
    assert weights(record) == weights(run(make_cell("ce"), "w"))


def test_stopped_while_scoring_resumes_to_the_same_record(
    run: Callable[..., Record], tmp_path: Path, cache: Path
) -> None:
    cell = make_cell()
    asked = iter(range(100))
    assert CellRun(make_spec(cell, tmp_path / "r", cache), should_stop=lambda: next(asked) >= 8).run() is None
    assert np.array_equal(run(cell, "r").confusion, run(cell, "w").confusion)


def test_per_class_iou_recomputed_from_the_dumped_predictions(run: Callable[..., Record], tmp_path: Path) -> None:
    from lossbench.registry import Registry
    from tests.execution.cellfactory import STREETS

    cell = make_cell()
    record = run(cell, keep=("predictions",))
    dataset = Registry("dataset").get("streets").build(STREETS, root=tmp_path)
    folder = tmp_path / "a" / "runs" / cell.id / "predictions"
    intersection, union = np.zeros(dataset.num_classes), np.zeros(dataset.num_classes)
    for index, name in enumerate(dataset.names("val")):
        truth = dataset.load("val", index)[1]
        predicted = np.asarray(Image.open((folder / name).with_suffix(".png")))
        valid = truth != 255
        for c in range(dataset.num_classes):
            intersection[c] += np.sum((truth == c) & (predicted == c))
            union[c] += np.sum(((truth == c) | (predicted == c)) & valid)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(intersection / union, metrics.iou(record.confusion))


def test_every_loss_keeps_predictions_of_the_same_images(run: Callable[..., Record], tmp_path: Path) -> None:
    folders = [tmp_path / "a" / "runs" / run(make_cell(loss)).id / "predictions" for loss in ("ce", "focal")]
    kept = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 5  # four images and the index
    none = run(make_cell(), "b", keep_images=0)
    assert not (tmp_path / "b" / "runs" / none.id / "predictions").exists()


def test_a_record_says_what_it_cost_and_what_ran(run: Callable[..., Record]) -> None:
    record = run(make_cell("cdfl"))
    assert record.costs["ms_per_step"] > 0
    assert set(record.costs["ms"]) == {"data", "forward", "loss", "backward", "optimizer", "log", "total"}
    assert record.costs["peak_memory_mb"] > 0
    assert record.curve["step"] == list(range(8))
    assert len(record.diagnostics["u_mean"]) == 8
    assert len(record.diagnostics["u_p99_class"][-1]) == len(record.class_names)
    assert record.diagnostics["class_steps"] == list(range(8))
    assert record.provenance["data"].keys() == {"train", "val"}


def test_bfloat16_autocast_trains(run: Callable[..., Record]) -> None:
    record = run(make_cell("cdfl", protocol={"amp": "bf16"}))
    assert record.status == "ok"
    assert np.isfinite(record.curve["loss"]).all()


def test_deterministic_mode_runs(run: Callable[..., Record]) -> None:
    try:
        record = run(make_cell(protocol={"deterministic": True}))
    finally:
        torch.use_deterministic_algorithms(False)
    assert record.status == "ok"


# --- losses made of losses, and controls ---


def kept_weights(root: Path, cell: Cell) -> dict[str, torch.Tensor]:
    return load_file(root / "runs" / cell.id / "model.safetensors")


def test_a_sum_of_one_loss_is_that_loss_bit_for_bit(run: Callable[..., Record]) -> None:
    ce, cdfl = run(make_cell("ce")), run(make_cell("cdfl", omega=1.0))
    one = run(make_cell("sum", terms=[{"name": "ce"}]))
    assert weights(one) == weights(ce)
    assert one.costs["extra_forwards"] == 0
    stochastic = run(make_cell("sum", terms=[{"name": "cdfl", "omega": 1}]))
    assert weights(stochastic) == weights(cdfl)
    assert stochastic.costs["extra_forwards"] == 5
    assert stochastic.provenance["code"]["loss"] not in (
        one.provenance["code"]["loss"],
        cdfl.provenance["code"]["loss"],
    )


def test_the_control_that_keeps_all_is_cross_entropy_bit_for_bit(run: Callable[..., Record]) -> None:
    ce, control = run(make_cell("ce")), run(make_cell("ce_control"))
    assert weights(ce) == weights(control)
    assert ce.curve == control.curve
    assert control.costs["extra_forwards"] == 0


def test_a_shifted_stream_changes_all_but_the_initial_weights(run: Callable[..., Record]) -> None:
    ce = run(make_cell("ce"))
    five, again, three = (
        run(make_cell("ce_control", random_stream="shifted", passes=passes), where)
        for passes, where in ((5, "a"), (5, "b"), (3, "c"))
    )
    assert initial(ce) == initial(five) == initial(three)
    assert ce.curve["loss"][0] != five.curve["loss"][0] != three.curve["loss"][0]
    assert len({weights(ce), weights(five), weights(three)}) == 3
    assert weights(five) == weights(again)


def test_updated_statistics_change_nothing_else_in_a_step(run: Callable[..., Record], tmp_path: Path) -> None:
    settings = {"protocol": {"iterations": 1}, "backbone": {"dropout": 0.5}}
    ce = make_cell("ce", **settings)
    control = make_cell("ce_control", batchnorm="updated", passes=3, **settings)
    first, second = run(ce, keep=("weights",)), run(control, keep=("weights",))
    assert second.costs["extra_forwards"] == 3
    assert first.curve == second.curve
    plain, updated = kept_weights(tmp_path / "a", ce), kept_weights(tmp_path / "a", control)
    differing = {name for name in plain if not torch.equal(plain[name], updated[name])}
    assert differing == {n for n in plain if n.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    counters = [name for name in plain if name.endswith("num_batches_tracked")]
    assert counters
    assert all((int(plain[name]), int(updated[name])) == (1, 4) for name in counters)


def test_updated_statistics_do_not_reach_the_weights_while_training(run: Callable[..., Record]) -> None:
    ce, control = run(make_cell("ce")), run(make_cell("ce_control", batchnorm="updated"))
    assert ce.curve == control.curve
    assert weights(ce) != weights(control)
