"""Rules about values and gradients: contract, extremes, ignored pixels, dtypes, layouts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.conformance.losses.scene import scene
from lossbench.conformance.losses.subject import VOID, Batch, LossSubject, Outcome, random_batch
from lossbench.conformance.report import Check, Rule, close, number, same


def contract(subject: LossSubject) -> Iterator[Check]:
    """An nn.Module with a docstring, a static signature, `ignore_index` in the constructor,
    forward(logits, target[, resample]); its tensors are parameters or buffers."""
    plugin = subject.plugin
    yield Check("the constructor", f"facts {sorted(plugin.facts)}", "ignore_index", "ignore_index" in plugin.facts)
    yield Check("the class", repr(plugin.summary), "a docstring that says what it is", bool(plugin.summary))
    static = plugin.static_signature is not None
    yield Check("the file", f"signature {'' if static else 'not '}static", "literal defaults and plain types", static)
    loss = subject.build()
    plain = ", ".join(_plain_tensors(loss))
    got = f"tensors that stay behind when it moves to a GPU: {plain or 'none'}"
    yield Check("the constructor", got, "none: register_buffer makes a tensor move with the module", not plain)
    names = list(inspect.signature(loss.forward).parameters)
    fits = names[:2] == ["logits", "target"] and names[2:] in ([], ["resample"])
    yield Check("forward", f"({', '.join(names)})", "(logits, target) or (logits, target, resample)", fits)


def scalar_finite(subject: LossSubject) -> Iterator[Check]:
    """A scalar; value and gradient finite on logits of a network, untrained and trained, on a larger random batch, at
    logits of ±1e4, equal logits, p = 1 at the true or at a wrong class."""
    shown = scene()  # first of all, so that nothing the loss does is in it
    batch = random_batch(subject.classes)
    right = _one_hot(batch)
    extremes = {
        "logits of ±1e4": 1e4 * batch.logits.sign(),
        "equal logits (0)": torch.zeros_like(batch.logits),
        "equal logits (1e4)": torch.full_like(batch.logits, 1e4),
        "p = 1 at the true class": 1e4 * right,
        "p = 1 at a wrong class": 1e4 * right.roll(1, 1),
    }
    for fed, logits in extremes.items():
        noisy = random_batch(subject.classes, fed=fed, logits=logits)
        yield finite(fed, subject.run(noisy))
        exact = Batch(fed + ", passes alike", logits, noisy.target, (logits,) * len(noisy.passes))
        yield finite(exact.fed, subject.run(exact))
    large = random_batch(subject.classes, size=(2, 64, 128))
    yield finite(large.fed, subject.run(large))
    if subject.fixed_classes in (None, len(shown.counts)):
        for batch in (shown.untrained, shown.trained):
            real = batch.changed(f"logits of {batch.fed}")
            yield finite(real.fed, subject.run(real, subject.build(len(shown.counts), counts=shown.counts)))


def ignore(subject: LossSubject) -> Iterator[Check]:
    """What the logits hold at ignored pixels changes nothing, nor does which label marks them; no gradient there."""
    batch = random_batch(subject.classes)
    ignored = ~batch.valid.unsqueeze(1)
    base = subject.run(batch)
    yield _zero(batch.fed, "gradient at ignored pixels", base.grad.masked_select(ignored))
    for garbage in (1e4, float("inf"), float("-inf"), float("nan")):
        fed = f"logits of {garbage} at ignored pixels"
        other = subject.run(batch.changed(fed, logits=_filled(ignored, garbage)))
        yield same(fed, "value", other.value, base.value)
        yield same(fed, "gradient", other.grad, base.grad)
    for label in (-100, 254):
        fed = f"ignore_index={label}"
        marked = batch.changed(fed, target=_filled(~batch.valid, label))
        other = subject.run(marked, subject.build(ignore_index=label))
        yield same(fed, "value", other.value, base.value)
        yield same(fed, "gradient", other.grad, base.grad)


def compaction(subject: LossSubject) -> Iterator[Check]:
    """The value equals the loss over the valid pixels alone, laid out in a row."""
    batch = random_batch(subject.classes)
    row = batch.changed(
        "the valid pixels as one 1 x P image",
        logits=lambda z: z.movedim(1, 0)[:, batch.valid][None, :, None],
        target=lambda y: y[y != VOID][None, None],
    )
    yield close(row.fed, "value", subject.run(batch).value, subject.run(row).value, 1e-5)


def all_ignored(subject: LossSubject) -> Iterator[Check]:
    """A batch without any labelled pixel gives exactly 0 and a gradient of zeros."""
    batch = random_batch(subject.classes)
    everywhere = torch.ones(())
    for fed, mask in (("only void", everywhere == 0), ("only void, logits all NaN", everywhere == 1)):
        void = batch.changed(fed, logits=_filled(mask, float("nan")), target=_filled(everywhere == 1, VOID))
        outcome = subject.run(void)
        yield Check(fed, f"value {number(outcome.value)}", "value 0", bool(outcome.value == 0))
        yield _zero(fed, "gradient", outcome.grad)


def absent_class(subject: LossSubject) -> Iterator[Check]:
    """Finite where classes are missing: from the batch, from the whole training set, or all but one."""
    batch = random_batch(subject.classes)
    last = subject.classes - 1
    counts = [100] * last + [0]
    without = batch.changed("a class that no pixel of the batch has", target=lambda y: y.masked_fill(y == last, 0))
    yield finite(without.fed, subject.run(without))
    fed = "a class with a count of 0"
    yield finite(fed, subject.run(without.changed(fed), subject.build(counts=counts)))
    for label in (0, last):
        fed = f"labels of class {label} only"
        single = batch.changed(fed, target=_filled(batch.valid, label))
        yield finite(fed, subject.run(single))
    fed = "one labelled pixel"
    one = torch.ones_like(batch.valid)
    one[0, 0, 0] = False
    yield finite(fed, subject.run(batch.changed(fed, target=lambda y: torch.zeros_like(y).masked_fill(one, VOID))))


def gradcheck(subject: LossSubject) -> Iterator[Check]:
    """The gradient equals central differences in float64, away from ties (passes held fixed)."""
    batch = random_batch(subject.classes, size=(2, 2, 3), dtype=torch.float64, seed=1)
    batch = replace(batch, passes=tuple(z.requires_grad_() for z in batch.passes))
    # torch.autograd.gradcheck knows absolute tolerances only: scale the gradient to 1.
    scale = float(subject.run(batch).grad.abs().max()) or 1.0

    def scaled(logits: Tensor) -> Tensor:
        return subject.call(subject.build(), logits, batch) / scale

    leaf = batch.logits.clone().requires_grad_()
    passed = torch.autograd.gradcheck(scaled, leaf, atol=1e-5, rtol=1e-4, raise_exception=False)
    got = "derivatives alike" if passed else _worst_derivative(scaled, leaf)
    yield Check(batch.fed, got, "torch.autograd.gradcheck passes (derivatives relative to the largest)", passed)


def dtypes(subject: LossSubject) -> Iterator[Check]:
    """float16 and bfloat16 logits, and autocast to either, give the float32 value of the same logits."""
    batch = random_batch(subject.classes)
    for dtype in (torch.bfloat16, torch.float16):
        low = batch.changed(f"{dtype} logits", logits=_cast(dtype))
        reference = subject.run(low.changed(f"{dtype} logits as float32", logits=_cast(torch.float32)))
        outcome = subject.run(low)
        yield close(low.fed, "value", outcome.value, reference.value, 1e-3)
        yield close(low.fed, "gradient", outcome.grad, reference.grad, 2e-2)
        with torch.autocast("cpu", dtype=dtype):
            outcome = subject.run(low.changed(f"{dtype} logits under autocast"))
        yield close(f"{dtype} logits under autocast", "value", outcome.value, reference.value, 1e-3)
        with torch.autocast("cpu", dtype=dtype):
            outcome = subject.run(batch.changed(f"float32 logits under autocast to {dtype}"))
        yield close(f"float32 logits under autocast to {dtype}", "value", outcome.value, subject.run(batch).value, 1e-3)


def layout(subject: LossSubject) -> Iterator[Check]:
    """Memory layout changes nothing; a batch of 1, 1 x 1 images, 2 and 150 classes work."""
    batch = random_batch(subject.classes)
    base = subject.run(batch)
    layouts = {
        "channels_last logits": batch.changed("", logits=lambda z: z.contiguous(memory_format=torch.channels_last)),
        "transposed strides": batch.changed("", logits=_transposed, target=_transposed),
        "every second column of a wider tensor": batch.changed("", logits=_strided, target=_strided),
    }
    for fed, other in layouts.items():
        outcome = subject.run(other.changed(fed))
        yield close(fed, "value", outcome.value, base.value, 1e-5)
        yield close(fed, "gradient", outcome.grad, base.grad, 1e-5)
    for size in ((1, 5, 6), (2, 1, 1), (1, 1, 1)):
        small = random_batch(subject.classes, size=size, void=False)
        yield finite(f"{size[0]} image(s) of {size[1]} x {size[2]}", subject.run(small))
    for classes in (2, 150):
        if subject.fixed_classes in (None, classes):
            yield finite(f"{classes} classes", subject.run(random_batch(classes)))


VALUE_RULES: tuple[Rule, ...] = (
    contract,
    scalar_finite,
    ignore,
    compaction,
    all_ignored,
    absent_class,
    gradcheck,
    dtypes,
    layout,
)


def finite(fed: str, outcome: Outcome) -> Check:
    bad = int((~outcome.grad.isfinite()).sum())
    ok = bad == 0 and bool(outcome.value.isfinite())
    return Check(fed, f"value {number(outcome.value)}, {bad} gradients not finite", "finite value and gradient", ok)


def _plain_tensors(loss: nn.Module) -> list[str]:
    """Attributes of a fresh loss, and of the modules in it, that hold a tensor and are neither parameter nor buffer.
    `diagnostics` may: they are read, never computed with."""
    return [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in loss.named_modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers", "_modules", "diagnostics") and _holds_tensor(value)
    ]


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_tensor, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)


def _zero(fed: str, what: str, values: Tensor) -> Check:
    bad = int((values != 0).sum())  # NaN != 0 is true
    return Check(fed, f"{what}: {bad} of {values.numel()} not 0", f"{what}: exactly 0", bad == 0)


def _worst_derivative(function: Callable[[Tensor], Tensor], leaf: Tensor) -> str:
    """Where the gradient is farthest from central differences."""
    value = function(leaf)
    grad = torch.zeros_like(leaf)
    if value.requires_grad:
        found = torch.autograd.grad(value, leaf, allow_unused=True)[0]
        grad = grad if found is None else found
    numeric = torch.zeros_like(leaf).flatten()
    for index in range(leaf.numel()):
        step = torch.zeros_like(numeric).index_fill_(0, torch.tensor(index), 1e-6).view_as(leaf)
        with torch.no_grad():
            numeric[index] = (function(leaf + step) - function(leaf - step)) / 2e-6
    worst = int((grad.flatten() - numeric).abs().argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), leaf.shape))
    return f"derivative at logit {place}: {grad.flatten()[worst]:.6g}, by differences {numeric[worst]:.6g}"


def _one_hot(batch: Batch) -> Tensor:
    labels = batch.target.masked_fill(~batch.valid, 0)
    return torch.nn.functional.one_hot(labels, batch.classes).movedim(-1, 1).to(batch.logits.dtype)


def _filled(mask: Tensor, value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.masked_fill(mask, value)


def _cast(dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(dtype)


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


def _strided(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, -1)[..., ::2]
