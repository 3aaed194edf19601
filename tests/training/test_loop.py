"""The loop on a model small enough to check by hand: fairness, accumulation, clipping, divergence, blame."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lossbench.backbones.base import Backbone
from lossbench.data.batches import TrainBatches
from lossbench.data.cache import CachedSplit, open_split
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import ConfigError, SetupError
from lossbench.protocol import Protocol
from lossbench.training.curve import CURVE_POINTS, log_interval
from lossbench.training.loop import Trainer
from lossbench.training.seeding import seed_everything


class Noise(SegmentationDataset):
    class_names = ("a", "b", "c")
    colors = ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    splits = ("train",)

    def names(self, split: str) -> list[str]:
        return [str(i) for i in range(10)]

    def load(self, split: str, index: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(index)
        target = rng.integers(0, 3, (24, 24), dtype=np.uint8)
        target[: index + 1] = 255  # another share of ignored pixels in every image
        return rng.integers(0, 255, (24, 24, 3), dtype=np.uint8), target

    def files(self, split: str) -> list[Path]:
        return []


class Pixelwise(Backbone):
    """No BatchNorm: so that micro-batches and the whole batch are the same mathematics."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder, self.dropout, self.last = nn.Conv2d(3, 8, 1), nn.Dropout(dropout), nn.Conv2d(8, 3, 1)

    def trunk(self, images: Tensor) -> Tensor:
        return self.encoder(images).relu()

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return self.last(self.dropout(features))

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


class CE(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, target, ignore_index=255)


class Hungry(CE):
    """CE that draws from the global generator and asks for Monte-Carlo passes: neither may change the run."""

    extra_forwards = 3

    def forward(self, logits: Tensor, target: Tensor, resample: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        torch.rand(7)
        for _ in range(3):
            assert not torch.equal(resample(), logits)
        return super().forward(logits, target)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> CachedSplit:
    return open_split(Noise(), "train", cache_root=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def train(split: CachedSplit) -> Callable[..., Trainer]:
    def make(loss: nn.Module, *, dropout: float = 0.0, run: bool = True, **protocol: Any) -> Trainer:
        seed_everything(3)
        settings = {"iterations": 6, "batch_size": 4, "crop": [16, 16], "lr": 0.1, "min_lr": 0.0, **protocol}
        model = Pixelwise(dropout)
        checked = Protocol(**settings)
        trainer = Trainer(
            model,
            loss,
            TrainBatches(split, checked, key="k"),
            checked,
            loss_name="mine",
            key="k",
            num_classes=3,
            device=torch.device("cpu"),
        )
        if run:
            assert trainer.run()
        return trainer

    return make


def flat(trainer: Trainer) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_what_a_loss_draws_does_not_disturb_the_run(train: Callable[..., Trainer]) -> None:
    plain, hungry = train(CE(), dropout=0.5), train(Hungry(), dropout=0.5)
    assert torch.equal(flat(plain), flat(hungry))
    assert plain.curve.points == hungry.curve.points
    assert hungry.extra_forwards == 3


def test_accumulation_is_the_whole_batch_also_with_uneven_ignored_pixels(train: Callable[..., Trainer]) -> None:
    whole, parts = train(CE()), train(CE(), accumulate=4)
    torch.testing.assert_close(flat(whole), flat(parts), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(whole.curve.points["loss"], parts.curve.points["loss"], rtol=1e-4)


def test_it_learns_and_logs(train: Callable[..., Trainer]) -> None:
    trainer = train(CE(), iterations=40)
    losses = trainer.curve.points["loss"]
    assert trainer.curve.points["step"] == [*range(0, 40, 2), 39]
    assert np.mean(losses[-5:]) < losses[0]


def test_a_curve_has_between_a_tenth_and_all_of_its_points() -> None:
    for iterations in (*range(1, 2500), 40_000, 79_999):
        points = len(range(0, iterations, log_interval(iterations)))
        assert min(iterations, CURVE_POINTS // 10) <= points <= CURVE_POINTS


def test_clipping_bounds_the_step(train: Callable[..., Trainer]) -> None:
    before = train(CE(), run=False)
    start = flat(before)
    settings = {"iterations": 1, "momentum": 0.0, "weight_decay": 0.0}
    free, clipped = train(CE(), **settings), train(CE(), clip_grad_norm=0.01, **settings)
    assert torch.linalg.vector_norm(flat(clipped) - start) == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert torch.linalg.vector_norm(flat(free) - start) > 0.1 * 0.01


def test_a_run_that_explodes_has_diverged_and_stops(train: Callable[..., Trainer]) -> None:
    class Exploding(CE):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return super().forward(logits, target) * 1e30

    trainer = train(Exploding(), iterations=50)
    assert trainer.diverged is not None
    assert trainer.diverged.startswith("diverged at step")
    assert trainer.step < 50
    assert np.isfinite(trainer.curve.points["loss"]).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_for_sane_logits_is_blamed(train: Callable[..., Trainer], value: float) -> None:
    class Broken(CE):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return super().forward(logits, target) * value

    with pytest.raises(ConfigError, match="loss 'mine' returned"):
        train(Broken())


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_stop_and_go_on_from_the_state(train: Callable[..., Trainer], amp: str, optimizer: str) -> None:
    settings: dict[str, Any] = {"dropout": 0.5, "amp": amp, "optimizer": optimizer}
    whole = train(CE(), **settings)
    first = train(CE(), **settings, run=False)
    first._should_stop = lambda: first.step >= 2
    assert not first.run()
    second = train(CE(), **settings, run=False)
    second.load_state(first.state())
    assert second.run()
    assert torch.equal(flat(whole), flat(second))
    assert whole.curve.points == second.curve.points


def test_evaluation_on_the_way_is_in_the_curve_and_changes_nothing(split: CachedSplit) -> None:
    def run(every: int) -> Trainer:
        seed_everything(3)
        protocol = Protocol(iterations=6, batch_size=2, crop=[16, 16], eval_every=every)
        trainer = Trainer(
            Pixelwise(0.5),
            CE(),
            TrainBatches(split, protocol, key="k"),
            protocol,
            loss_name="ce",
            key="k",
            num_classes=3,
            device=torch.device("cpu"),
            evaluate=lambda: float(torch.rand(1)),
        )
        trainer.run()
        return trainer

    scored, plain = run(2), run(0)
    assert scored.curve.points["eval_step"] == [2, 4, 6]
    assert torch.equal(flat(scored), flat(plain))


COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
def test_a_compiled_trunk_changes_rounding_alone(train: Callable[..., Trainer]) -> None:
    plain, compiled = train(CE(), dropout=0.5), train(CE(), dropout=0.5, compile=True)
    torch.testing.assert_close(flat(compiled), flat(plain), rtol=1e-4, atol=1e-6)
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    assert compiled.compile_s > 0
    assert plain.compile_s == 0
    assert len(compiled.timer.state()) == len(plain.timer.state()) - 1, "the step that compiled is no measure"
    again = train(CE(), run=False, compile=True)
    again.load_state(compiled.state())
    assert again.compile_s == compiled.compile_s


def test_without_a_compiler_it_says_what_to_do(
    train: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    torch.compiler.reset()
    with pytest.raises(SetupError, match=r"torch.compile failed: .*compiler") as caught:
        train(CE(), compile=True)
    assert "compile: false" in (caught.value.hint or "")
