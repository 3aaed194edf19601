"""What a step of a loss costs beside `F.cross_entropy`: milliseconds and peak memory, in one run.

As a script (`python -m lossbench.conformance.losses.cost`): peak memory, in a process of its own, from a JSON request.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.conformance.losses.inputs import SHAPES, VOID, logits_and_target
from lossbench.conformance.losses.subject import Batch, LossSubject
from lossbench.measuring import PEAK_ENVIRONMENT, Work, interleave

BASELINE = "F.cross_entropy"
#: Shape of `inputs.SHAPES` by what a card calls it.
TITLES = {"camvid": "CamVid batch", "city": "Cityscapes crops", "pctx": "Pascal Context, 59 classes"}
_BUDGET_S, _ROUNDS = 8.0, (3, 9)


@dataclass(frozen=True)
class Cost:
    """Forward and backward on the CPU, float32 logits.

    Attributes:
        shape: N, C, H, W.
        ms, ce_ms: median milliseconds of the loss and of F.cross_entropy.
        ratio, ratio_low, ratio_high: median and quartiles of their ratio within a round.
        memory, ce_memory: peak bytes beyond logits and labels, the gradient included, in sizes of the logits; None
            where it cannot be measured (not Linux, or the loss raised).
        rounds: timed.
        passes: stochastic passes it was given, ready-made: what making them costs is the network's.
    """

    name: str
    shape: tuple[int, ...]
    ms: float
    ce_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    memory: float | None
    ce_memory: float | None
    rounds: int
    passes: int


def costs(subject: LossSubject, say: Callable[[str], None] = lambda message: None) -> list[Cost]:
    """One for each shape; none of a shape that its parameters do not fit."""
    fitting = {name: title for name, title in TITLES.items() if subject.fixed_classes in (None, SHAPES[name][1])}
    memory = _memory(subject) if fitting and Path("/proc/self/clear_refs").exists() else {}
    found = []
    for name, title in fitting.items():
        say(f"timing, {title} ...")
        passes, works = _works(subject, name)
        rounds = _rounds(works)
        timed = interleave(works, baseline=BASELINE, rounds=rounds, warmup=0)
        (ms, ratio), (ce_ms, _) = timed["loss"], timed[BASELINE]
        peaks = memory.get(name, {})
        spread = ratio.median, ratio.low, ratio.high
        used = peaks.get("loss"), peaks.get(BASELINE)
        found.append(Cost(title, SHAPES[name], ms.median, ce_ms.median, *spread, *used, rounds, passes))
    return found


def _works(subject: LossSubject, name: str) -> tuple[int, dict[str, Work]]:
    """(stochastic passes, forward and backward of the loss and of the baseline)."""
    logits, target = logits_and_target(name)
    loss = subject.build(logits.shape[1])
    passes = int(getattr(loss, "extra_forwards", 0))
    # Two are enough to be different: ten of this size would be gigabytes.
    batch = Batch(name, logits, target, tuple(logits.roll(shift, 0) for shift in range(1, min(passes, 2) + 1)))
    logits.requires_grad_()

    def ours() -> Tensor:
        return torch.autograd.grad(subject.call(loss, logits, batch), logits)[0]

    def baseline() -> Tensor:
        return torch.autograd.grad(functional.cross_entropy(logits, target, ignore_index=VOID), logits)[0]

    return passes, {"loss": ours, BASELINE: baseline}


def _rounds(works: Mapping[str, Work]) -> int:
    """As many as the budget holds, from a second call of each (the first warms up)."""
    for work in works.values():
        work()
    started = time.perf_counter()
    for work in works.values():
        work()
    fitting = int(_BUDGET_S / (time.perf_counter() - started))
    return min(max(fitting, _ROUNDS[0]), _ROUNDS[1])


def _memory(subject: LossSubject) -> dict[str, dict[str, float]]:
    """Peaks by shape and candidate, in sizes of the logits; empty when the process fails."""
    plugin = subject.plugin
    request = {"file": str(plugin.file), "module": plugin.module, "name": plugin.name, "params": subject.params}
    request["shapes"] = SHAPES
    done = subprocess.run(
        [sys.executable, "-m", "lossbench.conformance.losses.cost"],
        input=json.dumps(request, default=str),
        capture_output=True,
        text=True,
        env=os.environ | PEAK_ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    # A process that a loss ends early, whatever its exit code, has written nothing.
    found: dict[str, dict[str, float]] = json.loads(done.stdout) if done.returncode == 0 and done.stdout else {}
    return found


def main(request: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """See `_memory`."""
    from lossbench.conformance.targets import plugin_of
    from lossbench.peak import peak_of

    plugin = plugin_of("loss", request["name"], Path(request["file"]), request["module"])
    subject = LossSubject(plugin, request["params"])
    found: dict[str, dict[str, float]] = {}
    SHAPES.update({name: tuple(shape) for name, shape in request["shapes"].items()})
    for name, shape in SHAPES.items():
        if subject.fixed_classes in (None, shape[1]):
            size = 4 * torch.Size(shape).numel()
            found[name] = {what: peak_of(work) / size for what, work in _works(subject, name)[1].items()}
    return found


if __name__ == "__main__":
    # What a loss prints, also from C, must not mix with the answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        answer.write(json.dumps(main(json.load(sys.stdin))))
