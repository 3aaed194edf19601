"""What Monte-Carlo dropout adds to a training step, and what else a step is made of."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measure import ROOT, Options, Row, Spread, Table, environment, interleave, peak_bytes
from benchmarks.steps import NETS, Net, inputs, training_step
from lossbench.backbones.base import Backbone
from lossbench.conformance.losses.inputs import VOID
from lossbench.losses import CrossDropoutFocalLoss
from lossbench.training.loop import Trainer

TARGETS = {"mobilenetv3_small": 1.5, "resnet18": 1.15, "fcn_resnet50": 1.08}
PASSES = 5
BASELINE = "CE"
OURS = "CDFL, lossbench"
REPLAY = "CDFL, replay of the head, full maps"
SUMS = "CDFL, naive: T more forwards, running sums"
STACK = "CDFL, naive: T more forwards, stack().var(0)"
PEERS = (SUMS, STACK)
#: Rounds for what takes seconds a step, and for the peers there.
FEW, PEER_ROUNDS = 5, 2
SHAPES = ("quickstart", "camvid")


def run(options: Options) -> list[Table]:
    if options.device != "cpu":
        print("skipped: cdfl measures the CPU", file=sys.stderr)
        return []
    nets = ["quickstart"] if options.quick else list(TARGETS)
    shapes = SHAPES[:1] if options.quick else SHAPES
    tables = [step_table(name, options) for name in nets]
    tables.append(memory_table(nets[0], options))
    tables += [variants_table(name, options) for name in shapes]
    tables.append(allocator_table(shapes, options))
    return tables


# --- Monte-Carlo dropout ---


class CE(nn.Module):
    """torch's own."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target, ignore_index=VOID)


class Replay(CrossDropoutFocalLoss):
    """lossbench's CDFL on full logits of every pass: what any `resample` gets."""

    def forward(self, logits: Tensor, target: Tensor, resample: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(logits, target, lambda: resample())


class Naive(nn.Module):
    """T more forward passes of the whole network in training mode, as public code has it."""

    def __init__(self, passes: int, *, stack: bool) -> None:
        super().__init__()
        self.loss, self.passes, self.stack = CrossDropoutFocalLoss(passes=passes), passes, stack
        self.model: list[Callable[[], Tensor]] = []  # in a list: no submodule, the optimiser has its weights already

    def connect(self, trainer: Trainer, images: Tensor) -> None:
        model: Backbone = trainer.model
        self.model.append(lambda: model(images))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        if not self.stack:
            return self.loss(logits, target, self.model[0])
        with torch.no_grad():
            u = torch.stack([self.model[0]().softmax(1) for _ in range(self.passes)]).var(0, correction=0)
        u = u.gather(1, target.clamp(max=logits.shape[1] - 1).unsqueeze(1)).squeeze(1)
        nll = F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
        weighted = (1 + self.loss.omega * self.loss.alpha * u**self.loss.gamma) * nll
        return weighted.sum() / (target != VOID).sum()


def candidate(net: Net, name: str, passes: int = PASSES) -> Callable[[], None]:
    """A training step by its row's name."""
    if name in PEERS:
        naive, images = Naive(passes, stack=name == STACK), inputs(net)
        return training_step(net, naive, adapt=lambda trainer: naive.connect(trainer, images))
    losses: dict[str, Callable[[], nn.Module | str]] = {
        BASELINE: lambda: "ce",
        "F.cross_entropy": CE,
        OURS: lambda: CrossDropoutFocalLoss(passes=passes),
        REPLAY: lambda: Replay(passes=passes),
    }
    return training_step(net, losses[name]())


def step_table(name: str, options: Options) -> Table:
    net = NETS[name]
    large = name == "fcn_resnet50"
    rounds = min(options.rounds, FEW) if large else options.rounds
    works = {row: candidate(net, row) for row in (BASELINE, "F.cross_entropy", OURS, REPLAY, SUMS, STACK)}
    first = works if not large else {row: work for row, work in works.items() if row not in PEERS}
    spreads = interleave(first, baseline=BASELINE, rounds=rounds)
    if large:
        few = {row: works[row] for row in (BASELINE, *PEERS)}
        slow = interleave(few, baseline=BASELINE, rounds=min(PEER_ROUNDS, rounds), warmup=0)
        spreads |= {row: spread for row, spread in slow.items() if row in PEERS}
    rows = [
        Row(row, ms, ratio, peer=row in PEERS, target=TARGETS.get(name) if row == OURS else None)
        for row, (ms, ratio) in spreads.items()
    ]
    size = "x".join(str(side) for side in net.size)
    note = f"SGD, T = {PASSES}, dropout 0.1 before the last layer. CE: lossbench's."
    return Table(f"Training step, {name}, {size}, {net.classes} classes", BASELINE, rows, note)


def step_of(net: str, row: str, passes: str) -> Callable[[], None]:
    """For `peak_bytes`."""
    return candidate(NETS[net], row, int(passes))


def memory_table(name: str, options: Options) -> Table:
    few, many = str(PASSES), str(4 * PASSES)
    base = _peak(name, BASELINE, few, options)
    rows = [Row(BASELINE, extra={"step's peak, MiB": base})]
    for row in (OURS,) if options.quick else (OURS, REPLAY, SUMS, STACK):
        extra: dict[str, float | str] = {
            f"more at T = {passes}, MiB": _peak(name, row, passes, options) - base
            for passes in ((few,) if options.quick else (few, many))
        }
        rows.append(Row(row, peer=row in PEERS, extra=extra))
    note = "Resident peak of a step beyond what was resident before it, each in a fresh process; 1 MiB is noise."
    return Table(f"Peak memory of a training step, {name}", "", rows, note)


def _peak(net: str, row: str, passes: str, options: Options) -> float:
    return peak_bytes("benchmarks.cdfl", "step_of", net, row, passes, threads=options.threads) / 2**20


# --- the rest of a step ---


def _foreach(trainer: Trainer, *, foreach: bool) -> None:
    for group in trainer.optimizer.param_groups:
        group |= {"fused": False, "foreach": foreach}


def variants_table(name: str, options: Options) -> Table:
    """What each choice of the harness brings, one at a time."""
    net, base = NETS[name], "as it is"
    works = {
        base: training_step(net, "ce", optimizer="adamw"),
        "AdamW, torch's plain loop": training_step(
            net, "ce", optimizer="adamw", adapt=lambda t: _foreach(t, foreach=False)
        ),
        "AdamW, foreach": training_step(net, "ce", optimizer="adamw", adapt=lambda t: _foreach(t, foreach=True)),
        "channels_last: false": training_step(net, "ce", optimizer="adamw", channels_last=False),
    }
    seconds: dict[str, float] = {}
    if not options.quick:
        works["compile: true"] = training_step(net, "ce", optimizer="adamw", compile=True)
        started = time.perf_counter()
        works["compile: true"]()
        seconds["compile: true"] = time.perf_counter() - started
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        spreads = interleave(works, baseline=base, rounds=options.rounds, warmup=2)
    finally:
        torch.set_num_threads(threads)
    rows = [
        Row(row, ms, ratio, extra={"first step, s": seconds[row]} if row in seconds else {})
        for row, (ms, ratio) in spreads.items()
    ]
    size = "x".join(str(side) for side in net.size)
    note = "Fused AdamW, channels_last, no compilation, one thread. Compiled code may be on disk already."
    return Table(f"Choices in a CE step, {name}'s net and batch ({size})", base, rows, note)


def allocator_table(names: tuple[str, ...], options: Options) -> Table:
    """Fresh processes in turn, for a process cannot go back to a cold allocator."""
    steps, rounds = ("3", 1) if options.quick else ("20", 3)
    figures: dict[tuple[str, str], list[dict[str, float]]] = {}
    jobs = [(name, how) for name in names for how in ("system's", "kept")]
    order = random.Random(0)
    for _ in range(rounds):
        for name, how in order.sample(jobs, len(jobs)):
            command = [sys.executable, "-m", "benchmarks.steps", name, how, steps, "1"]
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment())
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
            figures.setdefault((name, how), []).append(json.loads(done.stdout))
    rows = []
    for name, how in jobs:
        ms = [figure["ms"] for figure in figures[name, how]]
        cold = [figure["ms"] for figure in figures[name, "system's"]]
        ratio = Spread.of(a / b for a, b in zip(ms, cold, strict=True))
        faults = Spread.of(figure["faults"] for figure in figures[name, how]).median
        rows.append(Row(f"{name}, {how}", Spread.of(ms), ratio, extra={"page faults a step": faults}))
    note = f"One thread, AdamW, CE; the median of {steps} steps in each of {rounds} fresh processes."
    return Table("Memory of freed tensors: the system's or kept", "system's", rows, note)
