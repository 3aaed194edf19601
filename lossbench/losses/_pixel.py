"""What the losses share: checked inputs, ignored pixels, label counts, log-probability of the true class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from lossbench.errors import ConfigError, ParameterError


class Pixels(NamedTuple):
    """A batch made safe to compute on: at ignored pixels both logits and target are 0.

    Attributes:
        logits: (N, C, H, W) float32, or float64 if that came in; as they came from `prepare_labels`.
        target: (N, H, W) int64 in 0..C-1.
        valid: (N, H, W) bool, false at ignored pixels.
    """

    logits: Tensor
    target: Tensor
    valid: Tensor


def prepare(logits: Tensor, target: Tensor, ignore_index: int) -> Pixels:
    """Check a batch, mask its ignored pixels and widen it to float32.

    Masking the logits, not only the loss, keeps NaN and infinities at ignored pixels out of the gradient: the
    backward of a softmax multiplies by its output, and NaN * 0 is NaN.

    Raises:
        ConfigError: wrong type, shape, dtype or device of either tensor. Labels out of range are reported by
            `target_log_prob`, where the check is free.
    """
    labels = prepare_labels(logits, target, ignore_index)
    masked = logits.masked_fill(~labels.valid.unsqueeze(1), 0.0)
    return labels._replace(logits=widen(masked))


def prepare_labels(logits: Tensor, target: Tensor, ignore_index: int) -> Pixels:
    """Check a batch and mask its labels; the logits stay as they are, which spares a copy. Raises as `prepare`."""
    check_batch(logits, target)
    valid = target != ignore_index
    return Pixels(logits, torch.where(valid, target, 0), valid)


def wide_dtype(logits: Tensor) -> torch.dtype:
    """What logits are computed in: float64 stays, all else is float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def widen(logits: Tensor) -> Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return logits.to(wide_dtype(logits))


def target_log_prob(log_prob: Tensor, target: Tensor) -> Tensor:
    """log p at the class `target` (N, H, W) of log-probabilities (N, C, H, W) -> (N, H, W).

    Raises:
        ConfigError: a label outside 0..C-1. On a GPU torch itself stops with a device-side assertion instead:
            looking at the labels there would force a synchronisation every step.
    """
    try:
        return log_prob.gather(1, target.unsqueeze(1)).squeeze(1)
    except RuntimeError:
        if target.numel() and (target.min() < 0 or target.max() >= log_prob.shape[1]):
            raise_label_error(target, log_prob.shape[1])
        raise


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean of per-pixel `values` (N, H, W) over the valid pixels; 0 when there is none."""
    return values.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)


def guarded_power(base: Tensor, exponent: float, floor: float = 0.0) -> Tensor:
    """base ** exponent for base >= 0, with a slope of 0 where base <= floor.

    For exponent < 1 the slope is infinite at 0, and infinity times the 0 that usually multiplies it is NaN.
    Values are exact everywhere (0 ** 0 = 1).
    """
    if exponent < 1:
        base = torch.where(base > floor, base, base.detach())
    return base.pow(exponent)


def label_counts(pixels: Pixels) -> Tensor:
    """Labelled pixels per class of a batch: (C,) int64. Raises ConfigError for a label outside 0..C-1 (on
    CPU)."""
    classes = pixels.logits.shape[1]
    if pixels.target.device.type != "cpu":  # where bincount would wait for the device; integers add up in any order
        counts = torch.zeros(classes, dtype=torch.int64, device=pixels.target.device)
        return counts.scatter_add_(0, pixels.target.flatten(), pixels.valid.flatten().long())
    # Ignored pixels carry label 0 here; counting all and subtracting beats boolean indexing by far.
    try:
        counts = torch.bincount(pixels.target.flatten(), minlength=classes)
    except RuntimeError:
        if (pixels.target < 0).any():
            raise_label_error(pixels.target, classes)
        raise
    if counts.numel() > classes:
        raise_label_error(pixels.target, classes)
    counts[0] -= (~pixels.valid).sum()
    return counts


# --- checks ---


def check_per_class(values: Tensor, logits: Tensor, what: str) -> None:
    """Raise ConfigError unless `values`, called `what`, are one per class of the logits."""
    if values.shape != logits.shape[1:2]:
        raise ConfigError(f"{what}: {values.numel()} values, but the logits have {logits.shape[1]} classes")


def check_batch(logits: Tensor, target: Tensor) -> None:
    """Raise ConfigError unless logits are (N, C, H, W) floating and target (N, H, W) int64 on one device."""
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor):
        found = f"{type(logits).__name__} and {type(target).__name__}"
        raise ConfigError(f"a loss takes two tensors, logits and target, got {found}")
    if logits.ndim != 4 or logits.shape[1] == 0:
        raise ConfigError(
            f"logits must be (N, C, H, W) with C >= 1, got shape {tuple(logits.shape)}",
            hint="pass the raw output of the network, a score per class and pixel",
        )
    if not logits.is_floating_point():
        raise ConfigError(f"logits must be floating point, got {logits.dtype}", hint="no argmax before the loss")
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) != expected:
        squeezable = target.ndim == 4 and target.shape[1] == 1
        raise ConfigError(
            f"target must be (N, H, W) = {expected} for logits {tuple(logits.shape)}, got shape {tuple(target.shape)}",
            hint="drop its channel axis: target.squeeze(1)"
            if squeezable
            else "labels are class indices, not one-hot; widen the logits to the size of the labels",
        )
    if target.dtype != torch.int64:
        raise ConfigError(f"target must be int64 class indices, got {target.dtype}", hint="use target.long()")
    if target.device != logits.device:
        raise ConfigError(f"logits are on {logits.device}, target is on {target.device}")


def raise_label_error(target: Tensor, classes: int) -> NoReturn:
    """Raise the ConfigError for labels outside 0..classes-1 (`target` has its ignored pixels at 0)."""
    low, high = int(target.min()), int(target.max())
    label = low if low < 0 else high
    raise ConfigError(
        f"target holds the label {label}, but the logits have {classes} classes (0 to {classes - 1})",
        hint="map such pixels to ignore_index, or give the network more classes",
    )


def check_number(
    loss: str, name: str, value: float, *, low: float = 0.0, high: float = math.inf, open_high: bool = False
) -> None:
    """Raise ParameterError unless low <= value <= high (< high if `open_high`) and value is finite."""
    above = value >= high if open_high else value > high
    if not math.isfinite(value) or value < low or above:
        limits = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g}{')' if open_high else ']'}"
        raise ParameterError(f"{loss}: {name} must be {limits}, got {value:g}", parameter=name)


def check_choice(loss: str, name: str, value: str, options: Sequence[str]) -> None:
    """Raise ParameterError unless value is one of `options`."""
    if value not in options:
        raise ParameterError(f"{loss}: {name} must be {' or '.join(options)}, got {value!r}", parameter=name)
