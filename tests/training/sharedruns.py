"""Small runs that several processes share, and the same runs alone: `python -m tests.training.sharedruns FOLDER RANK`
does all of them as one of two ranks and leaves what came out in FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.backbones.base import Backbone
from lossbench.data.batches import TrainBatches
from lossbench.data.cache import CachedSplit, open_split
from lossbench.errors import ConfigError
from lossbench.losses import CrossDropoutFocalLoss, CrossEntropyLoss, LovaszSoftmaxLoss
from lossbench.protocol import Protocol
from lossbench.training.checkpoint import weights_hash
from lossbench.training.evaluate import Evaluation, evaluate
from lossbench.training.loop import Trainer
from lossbench.training.ranks import ALONE, Ranks, positions
from lossbench.training.seeding import seed_everything
from lossbench.training.syncbn import synchronise
from tests.training.test_loop import Noise

WORLD = 2
CPU = torch.device("cpu")


class Normed(Backbone):
    """BatchNorm, dropout, and a layer that nothing uses, as some encoders have."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.dropout, self.last, self.unused = nn.Dropout(dropout), nn.Conv2d(8, 3, 1), nn.Linear(2, 2)

    def trunk(self, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(images)
        return features

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        logits: Tensor = self.last(self.dropout(features))
        return logits

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


class Learned(CrossEntropyLoss):
    """A loss with a parameter of its own, and a buffer that follows the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen += logits.detach().mean()
        return super().forward(logits * self.scale.view(1, -1, 1, 1), target)


class Broken(CrossEntropyLoss):
    """Not finite from the third step on, on one rank only (alone: in one micro-batch of two)."""

    def __init__(self, rank: int, factor: float) -> None:
        super().__init__()
        self.rank, self.factor, self.calls = rank, factor, 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        broken = self.rank == 1 and self.calls > 2
        return super().forward(logits, target) * (torch.nan if broken else self.factor)


#: Name: (loss, dropout, protocol, protocol of the one process that must come to the same, `split` of both).
RUNS: dict[str, tuple[Any, float, dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    "ce": (CrossEntropyLoss, 0.5, {}, {"accumulate": 2}, (1, 1)),
    "ce, one step": (CrossEntropyLoss, 0.5, {"iterations": 1}, {"iterations": 1, "accumulate": 2}, (1, 1)),
    "ce, accumulated": (CrossEntropyLoss, 0.5, {"accumulate": 2}, {"accumulate": 4}, (1, 1)),
    "ce, split": (CrossEntropyLoss, 0.5, {}, {"accumulate": 2}, (2, 2)),
    "ce, clipped": (CrossEntropyLoss, 0.5, {"clip_grad_norm": 0.1}, {"accumulate": 2, "clip_grad_norm": 0.1}, (1, 1)),
    "lovasz_softmax": (LovaszSoftmaxLoss, 0.5, {}, {"accumulate": 2}, (1, 1)),
    "cdfl": (lambda: CrossDropoutFocalLoss(omega=1.0), 0.5, {}, {"accumulate": 2}, (1, 1)),
    "cdfl, with gradients through the passes": (
        lambda: CrossDropoutFocalLoss(omega=1.0, grad_through_u=True, log_p="mc_mean"),
        0.5, {}, {"accumulate": 2}, (1, 1),
    ),
    "learned": (Learned, 0.0, {}, {"accumulate": 2}, (1, 1)),
    "synchronised": (CrossEntropyLoss, 0.0, {"sync_batchnorm": True}, {}, (1, 1)),
    "synchronised, accumulated": (
        CrossEntropyLoss, 0.0, {"sync_batchnorm": True, "accumulate": 2}, {"accumulate": 2}, (1, 1),
    ),
}  # fmt: skip


def trained(data: CachedSplit, loss: nn.Module, dropout: float, settings: dict[str, Any], **how: Any) -> Trainer:
    """A trainer of these; `how`: split and ranks."""
    ranks: Ranks = how.get("ranks", ALONE)
    base = {"iterations": 8, "batch_size": 8, "crop": [16, 16], "lr": 0.1, "min_lr": 0.0, "weight_decay": 0.01}
    protocol = Protocol(**{**base, **settings})
    seed_everything(3)
    model = Normed(dropout)
    if protocol.sync_batchnorm:
        synchronise(model, CPU)
    own = positions(protocol, split=how.get("split", 1), ranks=ranks)
    batches = TrainBatches(data, protocol, key="k", positions=own)
    return Trainer(model, loss, batches, protocol, loss_name="mine", key="k", num_classes=3, device=CPU, **how)


def result(trainer: Trainer) -> dict[str, Any]:
    return {
        "model": {k: v.clone() for k, v in trainer.model.state_dict().items()},
        "loss": {k: v.clone() for k, v in trainer.loss.state_dict().items()},
        "curve": trainer.curve.points,
        "diverged": trainer.diverged,
        "diagnostics": sorted(trainer.diagnostics),
    }


def scored(split: CachedSplit, trainer: Trainer, ranks: Ranks = ALONE) -> Evaluation:
    found = evaluate(trainer.model, split, 3, CPU, ranks=ranks, fine=True)
    assert found is not None
    return found


def alone(split: CachedSplit, name: str) -> Trainer:
    loss, dropout, _, settings, splits = RUNS[name]
    trainer = trained(split, loss(), dropout, settings, split=splits[1])
    assert trainer.run()
    return trainer


def main(folder: Path, rank: int) -> None:
    from lossbench.training.distributed import Group

    torch.set_num_threads(1)
    split = open_split(Noise(), "train", cache_root=folder / "cache")
    ranks = Group(folder, rank=rank, world=WORLD, device=CPU)
    made: dict[str, Any] = {}
    for name, (loss, dropout, settings, _, splits) in RUNS.items():
        trainer = trained(split, loss(), dropout, settings, split=splits[0], ranks=ranks)
        assert trainer.run()
        both = weights_hash(trainer.model.state_dict()) + weights_hash(trainer.loss.state_dict())
        ranks.must_agree(both, f"weights of {name}")
        made[name] = result(trainer)
        if name == "ce":
            found = scored(split, trainer, ranks)
            made["scored"] = {"model": trainer.model.state_dict(), "confusion": torch.from_numpy(found.confusion)}
            made["scored"]["per_image"] = torch.from_numpy(found.per_image)
            made["scored"]["extra"] = found.extra

    # Rank 0 alone is asked to stop; a fresh pair of trainers goes on from its checkpoint.
    asked = iter(range(100))
    stops = {"should_stop": lambda: rank == 0 and next(asked) >= 5}
    stopped = trained(split, CrossEntropyLoss(), 0.5, {}, ranks=ranks, **stops)
    assert not stopped.run()
    if rank == 0:
        torch.save(stopped.state(), folder / "stopped.pt")
    ranks.wait()
    resumed = trained(split, CrossEntropyLoss(), 0.5, {}, ranks=ranks)
    resumed.load_state(torch.load(folder / "stopped.pt", weights_only=True))
    assert resumed.run()
    made["stopped at"], made["resumed"] = stopped.step, result(resumed)

    exploded = trained(split, Broken(rank, 1e30), 0.0, {}, ranks=ranks)
    assert exploded.run()
    made["exploded"] = result(exploded)
    try:
        trained(split, Broken(rank, 1.0), 0.0, {}, ranks=ranks).run()
    except ConfigError as error:
        made["blamed"] = error.message
    ranks.must_agree(str(made["exploded"]["diverged"]) + made["blamed"], "ends")
    if rank == 0:
        torch.save(made, folder / "made.pt")
    ranks.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
