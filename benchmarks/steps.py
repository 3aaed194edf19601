"""Whole training steps, as the harness takes them, on one fixed batch."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.backbones.base import Backbone
from lossbench.conformance.losses.inputs import VOID
from lossbench.data.batches import normalise
from lossbench.protocol import Protocol
from lossbench.registry import Registry
from lossbench.training.allocator import keep_memory
from lossbench.training.loop import Trainer


@dataclass(frozen=True)
class Net:
    """A backbone and the batch it is trained on."""

    backbone: str
    params: tuple[tuple[str, Any], ...]
    size: tuple[int, int, int]
    classes: int

    def build(self, *, channels_last: bool = True) -> Backbone:
        torch.manual_seed(0)
        model: Backbone = (
            Registry("backbone").get(self.backbone).build(dict(self.params), num_classes=self.classes).train()
        )
        return model.to(memory_format=torch.channels_last) if channels_last else model

    def batch(self) -> tuple[Tensor, Tensor]:
        """Images uint8 in channels-last memory, and blobby targets with 5 % void."""
        generator = torch.Generator().manual_seed(0)
        count, height, width = self.size
        images = torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
        blobs = torch.randint(0, self.classes, (count, height // 16, width // 16), generator=generator)
        target = blobs.repeat_interleave(16, 1).repeat_interleave(16, 2)
        target[torch.rand(target.shape, generator=generator) < 0.05] = VOID
        return images.to(memory_format=torch.channels_last), target


def _timm(size: tuple[int, int, int], classes: int, **params: Any) -> Net:
    return Net("fcn_timm", (("weights", "none"), *params.items()), size, classes)


NETS = {
    "mobilenetv3_small": _timm((2, 256, 512), 19, encoder="mobilenetv3_small_100"),
    "resnet18": _timm((2, 256, 512), 19, encoder="resnet18"),
    "fcn_resnet50": Net("fcn_resnet50", (("weights", "none"),), (2, 256, 512), 19),
    "quickstart": _timm((8, 64, 128), 11),
    "camvid": _timm((8, 192, 256), 11),
}


def training_step(
    net: Net, loss: nn.Module | str, *, adapt: Callable[[Trainer], None] = lambda trainer: None, **protocol: Any
) -> Callable[[], None]:
    """One more optimiser step at every call.

    Args:
        loss: a module, or the name of a registered loss.
        adapt: changes the trainer before its first step.
        protocol: what differs from SGD.
    """
    settings = {"iterations": 10**6, "batch_size": net.size[0], "crop": list(net.size[1:]), "lr": 1e-3, **protocol}
    checked = Protocol(**settings)
    model = net.build(channels_last=checked.channels_last)
    if isinstance(loss, str):
        facts = {"num_classes": net.classes, "class_counts": [1] * net.classes, "ignore_index": VOID}
        loss = Registry("loss").get(loss).build({}, **facts)
    images, target = net.batch()
    trainer = Trainer(
        model,
        loss,
        SimpleNamespace(split=SimpleNamespace(ignore_index=VOID)),  # type: ignore[arg-type]
        checked,
        loss_name="benchmark",
        key="benchmark",
        num_classes=net.classes,
        device=torch.device("cpu"),
    )
    trainer.step = 1  # step 0 is a log point
    adapt(trainer)
    return lambda: trainer._one_step(images, target)


def inputs(net: Net) -> Tensor:
    """The batch as the network sees it."""
    return normalise(net.batch()[0])


@dataclass
class Timing:
    """Of one fresh process: median milliseconds a step, and page faults a step."""

    ms: float
    faults: float


def time_steps(net: str, allocator: str, steps: int) -> Timing:
    """Steps of cross-entropy with AdamW, in this process, with memory kept ("kept") or as the system has it."""
    import resource

    if allocator == "kept":
        keep_memory()
    step, times = training_step(NETS[net], "ce", optimizer="adamw"), []
    for _ in range(3):
        step()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        started = time.perf_counter()
        step()
        times.append((time.perf_counter() - started) * 1000)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return Timing(statistics.median(times), faults / steps)


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[4]))
    print(json.dumps(asdict(time_steps(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
