"""Losses of per-class sums: overlap of prediction and truth as a number per class, fused on the CPU, plain elsewhere.

With p the softmax and all sums over the labelled pixels of the batch, per class c

    I_c = sum of p_c where y = c        P_c = sum of p_c        G_c = number of pixels with y = c

A region loss is a function L(I, P, G), so with a_c = dL/dP_c and b_c = dL/dI_c its gradient at a pixel is that of
sum_c a_c p_c + b_y p_y: no graph over the pixels is needed. The fused way makes the softmax block by block into the
one tensor of the logits' size it needs, sums it, and turns it in place into the gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lossbench.losses._blocks import blocks, by_class, can_fuse, dense, softmax, weighted_class_sum
from lossbench.losses._known import known_gradient
from lossbench.losses._pixel import check_batch, label_counts, prepare, prepare_labels, wide_dtype

#: (I, P, G) -> L, all (C,) float64 but the scalar L; differentiable in I and P.
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def tversky_score(alpha: float, beta: float) -> Score:
    """1 - I / (I + alpha (P - I) + beta (G - I)), averaged over the classes present (G > 0); beta > 0."""

    def score(overlap: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
        present = truth > 0
        union = overlap + alpha * (predicted - overlap) + beta * (truth - overlap)
        # Divided by 1 where absent, so that no 0/0 reaches the gradient.
        index = overlap / torch.where(present, union, 1.0)
        return ((1 - index) * present).sum() / present.sum().clamp(min=1)

    return score


def region_loss(logits: Tensor, target: Tensor, score: Score, ignore_index: int) -> Tensor:
    """The region loss `score` of logits (N, C, H, W) and target (N, H, W), a scalar of float32 or wider.

    Raises:
        ConfigError: wrong type, shape, dtype or device, or a label outside 0..C-1 (on CPU).
    """
    check_batch(logits, target)
    if not can_fuse(logits):
        return plain_region_loss(logits, target, score, ignore_index)
    return known_gradient(
        logits,
        lambda detached, with_grad: _evaluate(detached, target, score, ignore_index, with_grad),
        lambda watched: plain_region_loss(watched, target, score, ignore_index),
    )


def plain_region_loss(logits: Tensor, target: Tensor, score: Score, ignore_index: int) -> Tensor:
    """The same, operation by operation and differentiated by autograd."""
    pixels = prepare(logits, target, ignore_index)
    prob = pixels.logits.softmax(1).masked_fill(~pixels.valid.unsqueeze(1), 0.0)
    at_label = prob.gather(1, pixels.target.unsqueeze(1)).flatten().double()
    overlap = at_label.new_zeros(prob.shape[1]).index_add(0, pixels.target.flatten(), at_label)
    predicted = prob.sum((0, 2, 3), dtype=torch.float64)
    return score(overlap, predicted, label_counts(pixels).double()).to(prob.dtype)


def _evaluate(
    logits: Tensor, target: Tensor, score: Score, ignore_index: int, with_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss, and its gradient if asked for, in the dtype that is computed in."""
    labels = prepare_labels(logits, target, ignore_index)
    truth = label_counts(labels).double()
    logits = dense(logits)
    z = by_class(logits)
    maps = (z.shape[0], 1, z.shape[2])
    label, valid = labels.target.reshape(maps), labels.valid.reshape(maps)
    wide = wide_dtype(logits)
    work = torch.empty_like(logits, dtype=wide) if with_grad else None
    at_label = torch.empty(maps, dtype=wide)  # p_y, 0 at ignored pixels
    overlap, predicted = torch.zeros_like(truth), torch.zeros_like(truth)
    for here in blocks(z):
        p = torch.empty_like(z[here], dtype=wide) if work is None else by_class(work)[here]
        soft = softmax(z[here], label[here], valid[here], p)
        scale = valid[here] / soft.total
        predicted += (p @ scale.transpose(1, 2)).sum((0, 2))
        p.mul_(scale)  # 0 at ignored pixels, and with it their gradient
        torch.mul(soft.log_p.exp_(), valid[here], out=at_label[here])
        overlap.scatter_add_(0, label[here].flatten(), at_label[here].flatten().double())
    if work is None:
        return score(overlap, predicted, truth).to(wide), None
    with torch.enable_grad():
        sums = (overlap.requires_grad_(), predicted.requires_grad_())
        loss = score(*sums, truth)
        by_overlap, by_predicted = (grad.to(wide) for grad in torch.autograd.grad(loss, sums))
    for here in reversed(blocks(z)):  # the last ones are still in the cache
        hit = by_overlap.index_select(0, label[here].flatten()).view_as(at_label[here]) * at_label[here]
        _softmax_backward(by_class(work)[here], label[here], hit, by_predicted)
    return loss.detach().to(wide), work


def _softmax_backward(p: Tensor, label: Tensor, hit: Tensor, by_predicted: Tensor) -> None:
    """Turn probabilities (B, C, L) in place into the gradient by the logits of sum_c a_c p_c + b_y p_y.

    That is p_c (a_c - q), and b_y p_y more at c = y, with q = sum_c a_c p_c + b_y p_y; `hit` = b_y p_y.
    """
    inner = weighted_class_sum(p, by_predicted).add_(hit)
    # Laid out as p is: mixed layouts cost several times the arithmetic.
    factor = torch.sub(by_predicted.view(1, -1, 1), inner, out=torch.empty_like(p))
    p.mul_(factor).scatter_add_(1, label, hit)
