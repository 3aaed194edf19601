"""The mean over pixels of w f(log p_y): one way for all pixel losses, fused on the CPU and plain elsewhere.

Every loss that is a mean of f(log p_y) goes through the same operations in the same order, so that losses that are
equal on paper (focal at gamma 0, CDFL at omega 0, ...) are equal in every bit.

The gradient is known as soon as the value is: with d = df / d log p_y, dL/dz = w d (onehot - p) / norm. So the fused
way writes it in the forward pass, block by block while p is in the cache, into the one tensor of the logits' size it
needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossbench.losses._blocks import Softmax, blocks, by_class, can_fuse, chained, dense, softmax
from lossbench.losses._pixel import Pixels, check_batch, label_counts, prepare, target_log_prob, wide_dtype

#: log p_y -> (f, df / d log p_y), elementwise, two fresh tensors: they are overwritten. Autograd must be able to
#: differentiate f too, for the plain way.
Curve = Callable[[Tensor], tuple[Tensor, Tensor]]
_Gradients = tuple[Tensor | None, None, Tensor | None, None]


def nll(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy's curve, -log p."""
    return -log_p, torch.full_like(log_p, -1.0)


class Means(NamedTuple):
    """What a `PixelMean` gives, all 0-dim.

    Attributes:
        loss: with gradients.
        unweighted: the mean of w_y f, detached.
        weighted: the mean of m w_y f, detached, m being the weight map (1 without one).
    """

    loss: Tensor
    unweighted: Tensor
    weighted: Tensor


class PixelMean(NamedTuple):
    """A pixel loss: the sum over labelled pixels of w w_y f(log p_y), divided by their number or by the sum of w_y.

    Attributes:
        ignore_index: label of pixels that count for nothing.
        curve: f.
        class_weights: (C,) w_y, or None for 1.
        divide_by_weights: by the sum of the labelled pixels' w_y instead of their number.
        smoothing: eps of label smoothing, for `nll` only: f becomes (1 - eps) f - eps mean_c log p_c.
        base, slope: w = base + slope m, where a call brings a weight map m; else w = 1.
    """

    ignore_index: int
    curve: Curve = nll
    class_weights: Tensor | None = None
    divide_by_weights: bool = False
    smoothing: float = 0.0
    base: float = 0.0
    slope: float = 1.0

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Means:
        """The loss of logits (N, C, H, W) and target (N, H, W) with a weight map (N, H, W) of the computing dtype.

        Gradients flow into the logits and the map. All is 0 where no pixel is labelled or all class weights are 0.

        Raises:
            ConfigError: wrong type, shape, dtype or device, or a label outside 0..C-1 (on CPU).
        """
        check_batch(logits, target)
        fixed = self.class_weights is None or not self.class_weights.requires_grad
        given = [tensor for tensor in (logits, weight, self.class_weights) if tensor is not None]
        if not (fixed and can_fuse(*given)):
            return self.plain(logits, target, weight)
        if not torch.is_grad_enabled():  # which the function itself cannot see
            logits, weight = logits.detach(), None if weight is None else weight.detach()
        return Means(*_Fused.apply(logits, target, weight, self))

    def plain(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Means:
        """The same, operation by operation and differentiated by autograd."""
        pixels = prepare(logits, target, self.ignore_index)
        log_prob = pixels.logits.log_softmax(1)
        losses, _ = self.curve(target_log_prob(log_prob, pixels.target))
        if self.smoothing:
            losses = (1 - self.smoothing) * losses - self.smoothing * log_prob.mean(1)
        losses = losses.masked_fill(~pixels.valid, 0.0)
        norm = pixels.valid.sum()
        if self.class_weights is not None:
            class_weights = self.class_weights.to(losses.dtype)
            losses = class_weights[pixels.target] * losses
            if self.divide_by_weights:
                norm = (label_counts(pixels) * class_weights.double()).sum()
        norm = norm.where(norm > 0, 1).to(losses.dtype)
        unweighted = losses.sum() / norm
        if weight is None:
            return Means(unweighted, unweighted.detach(), unweighted.detach())
        loss = ((self.base + self.slope * weight) * losses).sum() / norm
        return Means(loss, unweighted.detach(), (weight * losses).sum().detach() / norm)


class _Fused(torch.autograd.Function):
    """`PixelMean` with its gradients made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, recipe: PixelMean
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.recipe = recipe
        to_logits, _, to_weight, _ = ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):  # its matrix products would be bfloat16
            means, by_logits, by_weight = _evaluate(logits, target, weight, recipe, to_logits, to_weight)
        ctx.save_for_backward(logits, target, weight, by_logits, by_weight)
        ctx.mark_non_differentiable(means.unweighted, means.weighted)
        return means

    @staticmethod
    def backward(ctx: Any, scale: Tensor | None, *_: None) -> _Gradients:
        if scale is None:
            return None, None, None, None
        logits, target, weight, by_logits, by_weight = ctx.saved_tensors
        to_logits, _, to_weight, _ = ctx.needs_input_grad
        if torch.is_grad_enabled():  # the gradients are to be differentiated themselves
            inputs = [tensor for tensor, needed in ((logits, to_logits), (weight, to_weight)) if needed]
            loss = ctx.recipe.plain(logits, target, weight).loss
            found = iter(torch.autograd.grad(loss, inputs, scale, create_graph=True))
            return next(found) if to_logits else None, None, next(found) if to_weight else None, None
        return (
            None if by_logits is None else chained(by_logits, scale, logits.dtype),
            None,
            None if by_weight is None else chained(by_weight, scale, weight.dtype),
            None,
        )


def _evaluate(
    logits: Tensor, target: Tensor, weight: Tensor | None, recipe: PixelMean, to_logits: bool, to_weight: bool
) -> tuple[Means, Tensor | None, Tensor | None]:
    """The means, and the loss's gradients by the logits and by the weight map where they are asked for, both in the
    dtype that is computed in."""
    wide, logits = wide_dtype(logits), dense(logits)
    z = by_class(logits)
    maps = (z.shape[0], 1, z.shape[2])
    label = target.reshape(maps)
    valid = label != recipe.ignore_index
    m = None if weight is None else weight.detach().reshape(maps)
    class_weights = None if recipe.class_weights is None else recipe.class_weights.to(wide)
    norm = _norm(Pixels(z, label, valid), class_weights if recipe.divide_by_weights else None)
    by_logits = torch.empty_like(logits, dtype=wide) if to_logits else None
    by_weight = torch.empty(target.shape, dtype=wide) if to_weight else None
    loss = unweighted = weighted = 0.0
    for here in blocks(z):
        work = torch.empty_like(z[here], dtype=wide) if by_logits is None else by_class(by_logits)[here]
        known = valid[here]
        at = torch.where(known, label[here], 0)
        soft = softmax(z[here], at, known, work, with_mean=recipe.smoothing > 0)
        value, slope = recipe.curve(soft.log_p)
        if soft.mean_log_p is not None:
            value = (1 - recipe.smoothing) * value - recipe.smoothing * soft.mean_log_p.masked_fill(~known, 0.0)
        factor = known.to(wide)  # all is finite at ignored pixels, so that a factor of 0 masks it
        if class_weights is not None:
            factor *= class_weights.index_select(0, at.flatten()).view_as(at)
        value *= factor
        unweighted += _sum(value)
        if m is None:
            loss = weighted = unweighted
        else:
            w = recipe.base + recipe.slope * m[here]
            loss += _sum(w * value)
            weighted += _sum(m[here] * value)
            factor *= w
        if by_weight is not None:
            torch.mul(value, recipe.slope / norm, out=by_weight.view(maps)[here])
        if by_logits is not None:
            _write_gradient(soft, at, slope.mul_(factor).mul_(1 / norm), recipe.smoothing)
    means = Means(*(torch.tensor(total / norm, dtype=wide) for total in (loss, unweighted, weighted)))
    return means, by_logits, by_weight


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))


def _norm(pixels: Pixels, class_weights: Tensor | None) -> float:
    """The divisor: labelled pixels, or the sum of their class weights if given. 1 for 0: the sum is 0 then too."""
    if class_weights is None:
        return float(torch.count_nonzero(pixels.valid)) or 1.0
    counts = label_counts(pixels._replace(target=torch.where(pixels.valid, pixels.target, 0)))
    return float(counts.double() @ class_weights.double()) or 1.0


def _write_gradient(soft: Softmax, label: Tensor, pull: Tensor, smoothing: float) -> None:
    """Turn the terms in place into pull (onehot - p), with `pull` = w df / d log p_y / norm (B, 1, L).

    Label smoothing eps mixes the one-hot target with the uniform one: pull ((1 - eps) onehot + eps / C - p).
    """
    grad = soft.terms.mul_(torch.div(pull, soft.total.neg_(), out=soft.total))
    if smoothing:
        grad.add_(pull * (smoothing / grad.shape[1]))
        pull = pull * (1 - smoothing)
    grad.scatter_add_(1, label, pull)
