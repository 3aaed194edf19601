"""Lovász-softmax, forward and backward: both methods, the plain way and the peers, against F.cross_entropy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.measure import Options, Row, Table, interleave, optional, peak_bytes
from lossbench.conformance.losses.inputs import VOID, logits_and_target
from lossbench.losses._lovasz_plain import plain
from lossbench.losses.lovasz_softmax import lovasz_softmax

Loss = Callable[[Tensor, Tensor], Tensor]
BASELINE = "F.cross_entropy"
TARGETS = {
    ("exact", "city"): 10.0,
    ("exact", "camvid"): 10.0,
    ("exact", "pctx"): 10.0,
    ("histogram", "city"): 3.5,
    ("histogram", "camvid"): 4.0,
    ("histogram", "pctx"): 3.5,
}
#: Rounds for what takes seconds a call: the plain way and the peers.
SLOW_ROUNDS = {"city": 2, "camvid": 3, "pctx": 1}
ERROR, MEMORY = "gradient error", "peak / logits"


def tables(options: Options) -> list[Table]:
    """A table per shape and kind of logits. The slow candidates run on random logits only, memory on CamVid's shape."""
    inputs = [("city", 0.0), ("city", 4.0), ("camvid", 0.0), ("camvid", 4.0), ("pctx", 0.0)]
    if options.quick:
        inputs = inputs[2:3]
    return [table(options, shape, boost) for shape, boost in inputs]


def table(options: Options, shape: str, boost: float) -> Table:
    logits, target = batch(shape, boost, options.device, options.quick)
    sync = torch.cuda.synchronize if logits.device.type == "cuda" else lambda: None
    fast, slow = ours(), (others() if boost == 0 else {})
    baseline = {BASELINE: partial(gradient, candidate(BASELINE), logits, target)}
    run = {name: partial(gradient, loss, logits, target) for name, loss in (fast | slow).items()}
    spreads = interleave(
        baseline | {name: run[name] for name in fast}, baseline=BASELINE, rounds=options.rounds, sync=sync
    )
    if slow:
        rounds = min(options.rounds, SLOW_ROUNDS[shape])
        again = interleave(baseline | {n: run[n] for n in slow}, baseline=BASELINE, rounds=rounds, warmup=0, sync=sync)
        spreads |= {name: again[name] for name in slow}
    truth = gradient(partial(plain, ignore_index=VOID), logits.double(), target)
    rows = []
    for name, (ms, ratio) in spreads.items():
        extra = columns(options, shape, boost, name)
        # kornia's mean is another, and the slow ones take too long on the largest shape.
        if name in fast or (name in slow and name != "kornia" and shape != "pctx"):
            extra[ERROR] = f"{float((run[name]().double() - truth).norm() / truth.norm()):.1e}"
        rows.append(
            Row(
                name,
                ms,
                ratio,
                not name.startswith("lossbench"),
                TARGETS.get((name.rpartition(" ")[2], shape)),
                extra=extra,
            )
        )
    size = "x".join(str(length) for length in logits.shape)
    kind = f"random + {boost:g} at the true class" if boost else "random"
    note = "gradient error: relative L2 distance to float64. Void is class 0 for kornia; its mean is over all classes."
    return Table(f"Lovász-softmax, {shape} {size}, {kind} logits", BASELINE, rows, note)


def columns(options: Options, shape: str, boost: float, name: str) -> dict[str, float | str]:
    """Peak memory beyond the logits, gradient included, in sizes of the logits."""
    if (shape, boost) != ("camvid", 0.0) or options.device != "cpu":
        return {}
    peak = peak_bytes("benchmarks.lovasz", "work", name, shape, str(int(options.quick)), threads=options.threads)
    logits, _ = logits_and_target(shape, "cpu", options.quick)
    return {MEMORY: peak / (logits.numel() * logits.element_size())}


def batch(shape: str, boost: float, device: str, quick: bool) -> tuple[Tensor, Tensor]:
    """The shared inputs, with `boost` added to the logit of the true class: a trained network's, roughly."""
    logits, target = logits_and_target(shape, device, quick)
    label = torch.where(target == VOID, 0, target).unsqueeze(1)
    return logits.scatter_add(1, label, torch.full_like(logits[:, :1], boost)), target


def gradient(loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf, target), leaf)[0]


def candidate(name: str) -> Loss:
    """By its name in the tables; peers are imported only for one of them."""
    known = {BASELINE: partial(cross_entropy, ignore_index=VOID)} | ours()
    return known[name] if name in known else others()[name]


def ours() -> dict[str, Loss]:
    return {
        "lossbench exact": partial(lovasz_softmax, method="exact"),
        "lossbench histogram": partial(lovasz_softmax, method="histogram"),
    }


def others() -> dict[str, Loss]:
    return {"lossbench plain": partial(plain, ignore_index=VOID)} | peers()


def peers() -> dict[str, Loss]:
    found: dict[str, Loss] = {}
    if (smp := optional("segmentation_models_pytorch.losses")) is not None:
        found["smp"] = smp.LovaszLoss("multiclass", ignore_index=VOID)
    if (kornia := optional("kornia.losses")) is not None:
        found["kornia"] = partial(_without_void, kornia.lovasz_softmax_loss)
    return found


def _without_void(loss: Any, logits: Tensor, target: Tensor) -> Tensor:
    value: Tensor = loss(logits, torch.where(target == VOID, 0, target))
    return value


def work(name: str, shape: str, quick: str) -> Callable[[], Tensor]:
    """For `peak_bytes`: one forward and backward of a candidate."""
    logits, target = logits_and_target(shape, "cpu", bool(int(quick)))
    return partial(gradient, candidate(name), logits, target)
