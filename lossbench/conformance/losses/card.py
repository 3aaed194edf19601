"""The loss card: what a loss is like beside cross-entropy, apart from whether it passes the rules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lossbench.conformance.losses.cost import Cost
from lossbench.conformance.losses.scene import Scene, scene
from lossbench.conformance.losses.subject import VOID, Batch, LossSubject, Outcome, random_batch
from lossbench.conformance.report import one_line


@dataclass(frozen=True)
class Standing:
    """A loss and cross-entropy on the same logits.

    Attributes:
        logits: whose.
        value, ce: of the loss and of cross-entropy.
        gradient: norm of the gradient with respect to the logits, divided by that of cross-entropy's.
        rare, ce_rare: share (0..1) of the gradient's absolute sum at pixels of the rarest third of the classes.
    """

    logits: str
    value: float
    ce: float
    gradient: float
    rare: float
    ce_rare: float


@dataclass(frozen=True)
class Precision:
    """Logits of a narrower type: how far value and gradient are from those of the same logits in float32, relative to
    the largest; or the error it raises."""

    dtype: str
    value: float | None
    gradient: float | None
    error: str = ""


@dataclass(frozen=True)
class LossCard:
    """A loss apart from its rules: `standing` or `absent` is empty where it cannot be measured: see `note`."""

    standing: list[Standing]
    precision: list[Precision]
    absent: dict[str, float]
    facts: list[str]
    passes: int
    resample_with_grad: bool
    state: list[str]
    exceptions: dict[str, str]
    note: str
    costs: list[Cost]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def loss_card(subject: LossSubject, costs: list[Cost]) -> LossCard:
    """The card of a loss that can be built; of a loss that raises when it is called, what there is to tell."""
    loss = subject.build()
    standing: list[Standing] = []
    absent: dict[str, float] = {}
    note = ""
    shown = scene()
    if subject.fixed_classes not in (None, len(shown.counts)):
        note = f"its parameters are for {subject.fixed_classes} classes, streets has {len(shown.counts)}"
    else:
        try:
            standing = [_standing(subject, batch, shown) for batch in (shown.untrained, shown.trained)]
        except (Exception, SystemExit) as error:  # a finding of the rules; the card goes on without it
            note = one_line(error)
    try:
        absent = absent_class(subject)
    except (Exception, SystemExit) as error:
        note = note or one_line(error)
    return LossCard(
        standing=standing,
        precision=[precision(subject, dtype) for dtype in (torch.float64, torch.bfloat16, torch.float16)],
        absent=absent,
        facts=sorted(subject.plugin.facts),
        passes=int(getattr(loss, "extra_forwards", 0)),
        resample_with_grad=bool(getattr(loss, "resample_with_grad", False)),
        state=list(loss.state_dict()),
        exceptions=subject.exceptions,
        note=note,
        costs=costs,
    )


def _standing(subject: LossSubject, batch: Batch, shown: Scene) -> Standing:
    ours = subject.run(batch, subject.build(len(shown.counts), counts=shown.counts))
    theirs = cross_entropy(batch.logits, batch.target)
    rare = torch.isin(batch.target, torch.tensor(shown.rare)).unsqueeze(1)
    return Standing(
        logits=batch.fed,
        value=float(ours.value),
        ce=float(theirs.value),
        gradient=float(ours.grad.norm() / theirs.grad.norm()),
        rare=_share(ours.grad, rare),
        ce_rare=_share(theirs.grad, rare),
    )


def cross_entropy(logits: Tensor, target: Tensor) -> Outcome:
    """Value and gradient of torch's own."""
    leaf = logits.detach().requires_grad_()
    value = functional.cross_entropy(leaf, target, ignore_index=VOID)
    return Outcome(value.detach(), torch.autograd.grad(value, leaf)[0])


def _share(grad: Tensor, where: Tensor) -> float:
    total = float(grad.abs().sum())
    return float((grad.abs() * where).sum()) / total if total else 0.0


def absent_class(subject: LossSubject) -> dict[str, float]:
    """What a class costs that no pixel has.

    Returns:
        `perfect`: the value of a right and confident prediction in which one class has no pixel (0: it counts only
        where it is present); `gradient`: mean absolute gradient at the logits of the absent class, divided by
        cross-entropy's, for random logits.
    """
    last = subject.classes - 1
    batch = random_batch(subject.classes, size=(2, 16, 16)).changed(
        "", target=lambda target: target.masked_fill(target == last, 0)
    )
    labels = batch.target.masked_fill(~batch.valid, 0)
    sure = 30.0 * functional.one_hot(labels, subject.classes).movedim(-1, 1).float()
    perfect = subject.run(Batch("", sure, batch.target, (sure,) * len(batch.passes)))
    ours, theirs = subject.run(batch), cross_entropy(batch.logits, batch.target)
    ratio = float(ours.grad[:, last].abs().mean() / theirs.grad[:, last].abs().mean())
    return {"perfect": float(perfect.value), "gradient": ratio}


def precision(subject: LossSubject, dtype: torch.dtype) -> Precision:
    """Value and gradient for logits of a type. For float64 the reference is the same logits in float32, too."""
    name = str(dtype).removeprefix("torch.")
    low = random_batch(subject.classes).changed(name, logits=lambda z: z.to(torch.bfloat16).to(dtype))
    try:
        got = subject.run(low)
        expected = subject.run(low.changed("float32", logits=lambda z: z.float()))
    except (Exception, SystemExit) as error:  # what it raises is the finding
        return Precision(name, None, None, one_line(error))
    return Precision(name, _off(got.value, expected.value), _off(got.grad, expected.grad))


def _off(got: Tensor, expected: Tensor) -> float:
    scale = float(expected.double().abs().max())
    return float((got.double() - expected.double()).abs().max()) / (scale or 1.0)
