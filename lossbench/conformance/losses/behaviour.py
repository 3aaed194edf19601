"""Rules about behaviour: learning, side effects, determinism, state, use of `resample`, diagnostics."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn

from lossbench.conformance.losses.subject import VOID, Batch, LossSubject, random_batch
from lossbench.conformance.report import Check, Rule, Skip, number, same
from lossbench.conformance.surroundings import state as surroundings
from lossbench.conformance.surroundings import unusual
from lossbench.errors import LossbenchError


def learns(subject: LossSubject) -> Iterator[Check]:
    """Gradient steps lower it; a confident right prediction scores below a confident wrong one."""
    batch = random_batch(subject.classes)
    noise = [z - batch.logits for z in batch.passes]
    loss = subject.build()

    def at(logits: Tensor) -> Tensor:
        # The passes follow the logits, as those of a network that is being trained.
        return subject.call(loss, logits, Batch(batch.fed, logits, batch.target, tuple(logits + z for z in noise)))

    logits = batch.logits.clone()
    first = at(logits)
    for _ in range(60):
        logits.requires_grad_()
        grad = torch.autograd.grad(at(logits), logits)[0]
        # Of unit length in the maximum norm, so that the scale of a loss does not matter.
        logits = logits.detach() - 0.2 * grad / grad.abs().max().clamp(min=1e-30)
    last = at(logits).detach()
    fell = bool(last < first)
    yield Check("60 gradient steps", f"from {number(first)} to {number(last)}", "a lower value", fell)

    labels = batch.target.masked_fill(~batch.valid, 0)
    right = 8 * nn.functional.one_hot(labels, subject.classes).movedim(-1, 1).float()
    good, bad = at(right), at(right.roll(1, 1))
    fed = "logits of 8 at the true class, then at a wrong one"
    yield Check(fed, f"{number(good)} and {number(bad)}", "right below wrong", bool(good < bad))


def purity(subject: LossSubject) -> Iterator[Check]:
    """Building and calling it change nothing but its own state: inputs, random states, modes, BatchNorm buffers."""
    yield from _leaves_inputs(subject)
    batch = random_batch(subject.classes)
    with unusual(0):
        outside = surroundings()
        subject.run(batch)
        left = surroundings()
    yield from _unchanged(batch.fed, outside, left)
    # Again where every setting is another: a value that the loss sets for good was there before in one case at most.
    for fed, gradients in (("the same with all modes switched", True), ("the same without gradients", False)):
        with unusual(1, gradients=gradients), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outside = surroundings()
            # Whether a loss works here is not this rule's business.
            with suppress(Exception, SystemExit):
                subject.run(batch)
            left = surroundings()
        yield from _unchanged(fed, outside, left)


def _leaves_inputs(subject: LossSubject) -> Iterator[Check]:
    batch = random_batch(subject.classes)
    counts = list(range(10, 10 + subject.classes))
    loss = subject.build(counts=counts)
    before = batch.changed("", logits=torch.clone, target=torch.clone)
    norms = {name: buffer.clone() for name, buffer in _norm_buffers(loss)}
    subject.run(batch, loss)
    for what, old, new in (
        ("logits", before.logits, batch.logits),
        ("target", before.target, batch.target),
        ("resampled logits", torch.stack(before.passes), torch.stack(batch.passes)),
        *((f"BatchNorm buffer {name}", norms[name], buffer) for name, buffer in _norm_buffers(loss)),
    ):
        yield same(batch.fed, what, new, old)
    yield Check(batch.fed, f"class_counts {counts}", "unchanged", counts == list(range(10, 10 + subject.classes)))


def _unchanged(fed: str, before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[Check]:
    for what, old in before.items():
        untouched = after[what] == old
        yield Check(fed, f"{what} {'un' * untouched}changed", f"{what} unchanged", untouched)


def determinism(subject: LossSubject) -> Iterator[Check]:
    """The same batch gives the same bits on CPU, whatever the global random state."""
    batch = random_batch(subject.classes)
    first = subject.run(batch)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(12345)
        second = subject.run(batch)
    finally:
        torch.set_rng_state(state)
    yield same("the same batch twice", "value", second.value, first.value)
    yield same("the same batch twice", "gradient", second.grad, first.grad)


def state(subject: LossSubject) -> Iterator[Check]:
    """All that a call remembers is in the state_dict, which survives saving and loading."""
    loss = subject.build()
    for seed in range(3):
        subject.run(random_batch(subject.classes, seed=seed), loss)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    fresh = subject.build()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    batch = random_batch(subject.classes, seed=99)
    old, new = subject.run(batch, loss), subject.run(batch, fresh)
    fed = "three batches, then a fresh loss with the saved state_dict"
    yield same(fed, "value", new.value, old.value)
    yield same(fed, "gradient", new.grad, old.grad)


def resample(subject: LossSubject) -> Iterator[Check]:
    """`extra_forwards` calls of it, without gradients unless `resample_with_grad`; a missing one is an error."""
    loss = subject.build()
    declared = int(getattr(loss, "extra_forwards", 0))
    if not subject.takes_resample:
        yield Check("the class", f"extra_forwards = {declared}", "0 without a parameter resample", declared == 0)
        raise Skip("takes no resample")
    batch = random_batch(subject.classes)
    with_grad = bool(getattr(loss, "resample_with_grad", False))
    modes: list[bool] = []

    def counted() -> Tensor:
        modes.append(torch.is_grad_enabled())
        # Connected to a leaf, so that a loss that wants gradients from its passes gets them.
        return batch.passes[len(modes) % len(batch.passes)].clone().requires_grad_()

    loss(batch.logits.clone().requires_grad_(), batch.target, counted)
    called = len(modes)
    yield Check(batch.fed, f"{called} calls of resample", f"extra_forwards = {declared}", called == declared > 0)
    found = "on" if any(modes) else "off"
    expected = "on" if with_grad else "off"
    yield Check(batch.fed, f"gradients {found} in resample", f"{expected} (resample_with_grad)", found == expected)
    try:
        loss(batch.logits, batch.target)
    except (LossbenchError, TypeError, ValueError) as error:
        yield Check(
            "no resample", f"{type(error).__name__}: {error}", "an error that says so", "resample" in str(error)
        )
    else:
        yield Check("no resample", "no error", "an error that says so", False)


def diagnostics(subject: LossSubject) -> Iterator[Check]:
    """`diagnostics` and what `diagnose` returns, where there are any, are detached tensors by name: 0-dim, or from
    `diagnose` one value per class."""
    loss = subject.build()
    diagnose = getattr(loss, "diagnose", None)
    if not hasattr(loss, "diagnostics") and diagnose is None:
        raise Skip("has no diagnostics")
    batch = random_batch(subject.classes)
    subject.run(batch, loss)
    for name, value in dict(getattr(loss, "diagnostics", {})).items():
        fits = isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad
        yield Check(batch.fed, f"{name}: {value!r}", "a detached 0-dim tensor", fits)
    if diagnose is not None:
        void = batch.changed("only void", target=lambda y: torch.full_like(y, VOID))
        for fed in (batch, void):
            subject.run(fed, loss)
            told = diagnose(fed.logits, fed.target)
            for name, value in told.items():
                shaped = isinstance(value, Tensor) and value.shape in ((), (subject.classes,))
                fits = shaped and not value.requires_grad
                yield Check(fed.fed, f"{name}: {value!r}", "a detached 0-dim tensor, or one value per class", fits)


BEHAVIOUR_RULES: tuple[Rule, ...] = (learns, purity, determinism, state, resample, diagnostics)


def _norm_buffers(loss: nn.Module) -> list[tuple[str, Tensor]]:
    return [
        (f"{name}.{key}", buffer)
        for name, module in loss.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for key, buffer in module.named_buffers(recurse=False)
    ]
