"""Forward and backward of every loss of sums over pixels, against torch's cross-entropy and the peers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import lovasz
from benchmarks.measure import Options, Row, Spread, Table, interleave, optional, peak_bytes
from lossbench import losses
from lossbench.conformance.losses.inputs import SHAPES, VOID, logits_and_target
from lossbench.losses._moments import Moments

Loss = Callable[[Tensor], Tensor]
BASELINE = "F.cross_entropy"
#: Largest ratio to the baseline that counts as met.
TARGETS = {"ce": 1.0, "balanced_ce": 1.0, "focal": 1.1, "df given u": 1.1, "cdfl given u": 1.1}
TARGETS |= {"dice": 1.3, "tversky": 1.3, "jaccard": 1.3}
#: Peers that take many times the baseline: timed apart from the others, over fewer rounds.
SLOW = ("smp ", "torchvision ", "monai Focal", "monai Tversky", "kornia tversky")
SLOW_ROUNDS = 3
NOTE = (
    "Gradient with respect to float32 logits; peak memory beyond them, the gradient included, in sizes of the logits "
    "(fresh process). * knows no ignore_index 255: void counted as class 0. "
    f"Slow peers: {SLOW_ROUNDS} rounds."
)


def run(options: Options) -> list[Table]:
    shapes = ["camvid"] if options.quick else list(SHAPES)
    tables = [table(shape, rows, options) for rows in (False, True) for shape in shapes]
    return tables + lovasz.tables(options)


def table(shape: str, channels_last: bool, options: Options) -> Table:
    """All losses on one shape; in channels_last, the layout training gives logits, without the peers."""
    logits, target = _inputs(shape, channels_last, options.device, options.quick)
    candidates = torch_losses(target, logits.shape[1]) | our_losses(target, logits.shape[1])
    if not channels_last:
        candidates |= peers(target, logits.shape[1])
    slow = [name for name in candidates if name.startswith(SLOW)]
    works = {name: _step(loss, logits) for name, loss in candidates.items()}
    fast = {name: work for name, work in works.items() if name not in slow}
    sync = torch.cuda.synchronize if logits.is_cuda else lambda: None
    spreads = interleave(fast, baseline=BASELINE, rounds=options.rounds, sync=sync)
    if slow:
        few = {name: works[name] for name in (BASELINE, *slow)}
        rounds = min(SLOW_ROUNDS, options.rounds)
        timed = interleave(few, baseline=BASELINE, rounds=rounds, warmup=0, sync=sync)
        spreads |= {name: spread for name, spread in timed.items() if name in slow}
    measured = {} if channels_last or logits.is_cuda else _memory(shape, list(candidates), options)
    layout = "channels_last" if channels_last else "contiguous"
    size = "x".join(str(side) for side in logits.shape)
    rows = [_row(name, *spread, measured.get(name)) for name, spread in spreads.items()]
    return Table(f"Losses, {shape} {size}, {layout} logits, forward + backward", BASELINE, rows, NOTE)


def _row(name: str, ms: Spread, ratio: Spread, memory: float | None) -> Row:
    own = name in TARGETS
    row = Row(name, ms, ratio, peer=not own and name != BASELINE, target=TARGETS.get(name))
    if memory is not None:
        row.extra["memory"] = memory
    return row


# --- candidates ---


def torch_losses(target: Tensor, classes: int) -> dict[str, Loss]:
    weight = torch.linspace(0.5, 1.0, classes, device=target.device)
    return {
        BASELINE: lambda z: functional.cross_entropy(z, target, ignore_index=VOID),
        "F.cross_entropy weighted": lambda z: functional.cross_entropy(z, target, weight, ignore_index=VOID),
    }


def our_losses(target: Tensor, classes: int) -> dict[str, Loss]:
    # What the Monte-Carlo passes would leave behind: DF and CDFL without them.
    u = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)).mul_(0.24)
    moments = Moments(u.to(target.device).masked_fill_(target == VOID, 0.0), None)
    df, cdfl = losses.DropoutFocalLoss(), losses.CrossDropoutFocalLoss()
    modules = {
        "ce": losses.CrossEntropyLoss(),
        "balanced_ce": losses.BalancedCrossEntropyLoss(range(1, classes + 1)).to(target.device),
        "focal": losses.FocalLoss(),
        "dice": losses.DiceLoss(),
        "tversky": losses.TverskyLoss(),
        "jaccard": losses.JaccardLoss(),
    }
    ours: dict[str, Loss] = {name: lambda z, loss=loss: loss(z, target) for name, loss in modules.items()}
    ours["df given u"] = lambda z: df.given(z, target, moments, ce=0.0, df=1.0)
    ours["cdfl given u"] = lambda z: cdfl.given(z, target, moments, ce=1.0, df=cdfl.omega)
    return ours


def peers(target: Tensor, classes: int) -> dict[str, Loss]:
    filled = target.masked_fill(target == VOID, 0)
    labelled = (target != VOID).sum()

    def naive_focal(z: Tensor) -> Tensor:
        ce = functional.cross_entropy(z, target, ignore_index=VOID, reduction="none")
        return ((1 - torch.exp(-ce)) ** 2 * ce).sum() / labelled

    found: dict[str, Loss] = {"naive focal, exp(-CE)": naive_focal}
    if (kornia := optional("kornia.losses")) is not None:
        found |= {
            "kornia focal": lambda z: kornia.focal_loss(z, target, None, 2.0, "mean", ignore_index=VOID),
            "kornia dice": lambda z: kornia.dice_loss(z, target, ignore_index=VOID),
            "kornia tversky": lambda z: kornia.tversky_loss(z, target, 0.3, 0.7, ignore_index=VOID),
        }
    if (monai := optional("monai.losses")) is not None:
        options = {"to_onehot_y": True, "batch": True}
        modules = {
            "monai FocalLoss*": monai.FocalLoss(use_softmax=True, gamma=2.0, to_onehot_y=True),
            "monai DiceLoss*": monai.DiceLoss(softmax=True, **options),
            "monai TverskyLoss*": monai.TverskyLoss(softmax=True, alpha=0.3, beta=0.7, **options),
        }
        found |= {name: lambda z, loss=loss: loss(z, filled[:, None]) for name, loss in modules.items()}
    if (smp := optional("segmentation_models_pytorch.losses")) is not None:
        modules = {
            "smp FocalLoss": smp.FocalLoss("multiclass", gamma=2.0, ignore_index=VOID),
            "smp DiceLoss": smp.DiceLoss("multiclass", ignore_index=VOID),
            "smp TverskyLoss": smp.TverskyLoss("multiclass", ignore_index=VOID, alpha=0.3, beta=0.7),
        }
        found |= {name: lambda z, loss=loss: loss(z, target) for name, loss in modules.items()}
        jaccard = smp.JaccardLoss("multiclass")
        found["smp JaccardLoss*"] = lambda z: jaccard(z, filled)
    if (torchvision := optional("torchvision.ops")) is not None:

        def sigmoid_focal(z: Tensor) -> Tensor:
            one_hot = functional.one_hot(filled, classes).movedim(-1, 1).to(z.dtype)
            return torchvision.sigmoid_focal_loss(z, one_hot, reduction="mean")

        found["torchvision sigmoid_focal*"] = sigmoid_focal
    return found


# --- measuring ---


def _inputs(shape: str, channels_last: bool, device: str, quick: bool) -> tuple[Tensor, Tensor]:
    logits, target = logits_and_target(shape, device, quick)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return logits.contiguous(memory_format=layout).requires_grad_(), target


def _step(loss: Loss, logits: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(loss(logits), logits)


def memory_work(name: str, shape: str, quick: str) -> Callable[[], object]:
    """One candidate for `measure.peak_bytes`."""
    logits, target = _inputs(shape, False, "cpu", quick == "quick")
    classes = logits.shape[1]
    for group in (torch_losses, our_losses, peers):
        if name in (found := group(target, classes)):
            return _step(found[name], logits)
    raise KeyError(name)


def _memory(shape: str, names: list[str], options: Options) -> dict[str, float]:
    """Peak of every candidate, in sizes of the logits; of a few on all shapes but one, as a process costs seconds."""
    if options.quick:
        names = names[:1]
    elif shape != "city":
        names = [name for name in names if name in (BASELINE, "ce", "balanced_ce", "cdfl given u", "dice")]
    logits, _ = _inputs(shape, False, "cpu", options.quick)
    size = logits.numel() * logits.element_size()
    quick = "quick" if options.quick else "full"
    return {
        name: peak_bytes("benchmarks.losses", "memory_work", name, shape, quick, threads=options.threads) / size
        for name in names
    }
