"""Logits of a real network, before and after training: what a loss meets at the start of a run and later in it.

A small FCN (`fcn_timm`, no pre-trained weights) trains on generated `streets` with plain cross-entropy for 120 steps,
which takes about two seconds on a CPU. Its logits of one training batch, in training mode, with ten Monte-Carlo passes
of its head, are the batches of `scene`. The same seeds give the same logits, up to the rounding of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.backbones.base import Backbone
from lossbench.conformance.losses.subject import VOID, Batch
from lossbench.registry import Registry
from lossbench.training.montecarlo import Resampler

STEPS = 120
_IMAGES, _BATCH, _SIZE, _PASSES, _RATE = 48, 4, (64, 128), 10, 4e-3


@dataclass(frozen=True)
class Scene:
    """Four images, seen by the untrained and by the trained network; `counts`: labelled training pixels (C,)."""

    untrained: Batch
    trained: Batch
    counts: list[int]

    @property
    def rare(self) -> list[int]:
        """The third of the classes with the fewest training pixels."""
        return sorted(range(len(self.counts)), key=self.counts.__getitem__)[: len(self.counts) // 3]


@cache
def scene() -> Scene:
    """Made once a process. Leaves torch's generator as it was."""
    images, labels = _data()
    counts = torch.bincount(labels[labels != VOID], minlength=int(labels[labels != VOID].max()) + 1).tolist()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Backbone = Registry("backbone").get("fcn_timm").build({"weights": "none"}, num_classes=len(counts))
        network.train()
        untrained = _batch("an untrained network", network, images[:_BATCH], labels[:_BATCH])
        optimizer = torch.optim.AdamW(network.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=STEPS)
        for step in range(STEPS):
            chosen = torch.arange(step * _BATCH, (step + 1) * _BATCH) % _IMAGES
            loss = functional.cross_entropy(network(images[chosen]), labels[chosen], ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        trained = _batch("a trained network", network, images[:_BATCH], labels[:_BATCH])
    return Scene(untrained, trained, counts)


def _data() -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W), about normalised, and labels (N, H, W)."""
    height, width = _SIZE
    size = {"height": height, "width": width, "train_images": _IMAGES, "val_images": 1}
    dataset = Registry("dataset").get("streets").build(size)
    pairs = [dataset.load("train", index) for index in range(_IMAGES)]
    images = torch.stack([torch.from_numpy(image) for image, _ in pairs]).movedim(-1, 1).float()
    return (images / 255 - 0.5) / 0.25, torch.stack([torch.from_numpy(target) for _, target in pairs]).long()


def _batch(fed: str, network: Backbone, images: Tensor, labels: Tensor) -> Batch:
    with torch.no_grad():
        features = network.trunk(images)
        size = (images.shape[-2], images.shape[-1])
        logits = network.head(features, size)
        draw = Resampler(network, features, size, seed=1)
        return Batch(fed, logits, labels, tuple(draw() for _ in range(_PASSES)))
