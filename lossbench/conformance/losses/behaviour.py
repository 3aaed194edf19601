"""Rules about behaviour: learning, side effects, determinism, state, use of `resample`, diagnostics."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.conformance.losses.subject import VOID, Batch, LossSubject, random_batch
from lossbench.conformance.report import Check, Rule, Skip, number, same
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
    """A call changes nothing but the loss's own state: inputs, random state, modes, BatchNorm buffers."""
    batch = random_batch(subject.classes)
    counts = list(range(10, 10 + subject.classes))
    loss = subject.build(counts=counts)
    before = batch.changed("", logits=torch.clone, target=torch.clone)
    norms = {name: buffer.clone() for name, buffer in _norm_buffers(loss)}
    outside = _surroundings()
    subject.run(batch, loss)
    for what, old, new in (
        ("logits", before.logits, batch.logits),
        ("target", before.target, batch.target),
        ("resampled logits", torch.stack(before.passes), torch.stack(batch.passes)),
        *((f"BatchNorm buffer {name}", norms[name], buffer) for name, buffer in _norm_buffers(loss)),
    ):
        yield same(batch.fed, what, new, old)
    for what, state in _surroundings().items():
        untouched = state == outside[what]
        yield Check(batch.fed, f"{what} {'un' * untouched}changed", f"{what} unchanged", untouched)
    yield Check(batch.fed, f"class_counts {counts}", "unchanged", counts == list(range(10, 10 + subject.classes)))


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


def _surroundings() -> dict[str, object]:
    """Global state a loss has no business with, in comparable form."""
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "numpy's random state": np.random.get_state()[1].tolist(),  # type: ignore[index]  # noqa: NPY002
        "Python's random state": random.getstate(),
        "gradient mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
    }
