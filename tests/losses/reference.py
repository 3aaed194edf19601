"""The losses as nested loops over pixels, in Python floats, written from the papers. Slow and plain on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

VOID = 255


def softmax(scores: list[float]) -> list[float]:
    top = max(scores)
    exps = [math.exp(score - top) for score in scores]
    return [value / sum(exps) for value in exps]


def pixels(logits: Tensor, target: Tensor) -> Iterator[tuple[list[float], int, tuple[int, int, int]]]:
    """(softmax, label, place) of every labelled pixel."""
    n, _, h, w = logits.shape
    for b in range(n):
        for i in range(h):
            for j in range(w):
                label = int(target[b, i, j])
                if label != VOID:
                    yield softmax(logits[b, :, i, j].double().tolist()), label, (b, i, j)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def cross_entropy(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> float:
    classes = logits.shape[1]
    losses = []
    for p, y, _ in pixels(logits, target):
        q = [(1 - smoothing) * (c == y) + smoothing / classes for c in range(classes)]
        losses.append(-sum(q[c] * math.log(p[c]) for c in range(classes) if q[c] > 0))
    return mean(losses)


def balanced(logits: Tensor, target: Tensor, counts: list[int] | None, divide_by: str) -> float:
    """Su et al. 2022, eq. 2."""
    labelled = list(pixels(logits, target))
    if counts is None:
        counts = [sum(y == c for _, y, _ in labelled) for c in range(logits.shape[1])]
    total = sum(counts)
    weights = [(total - count) / total for count in counts]
    summed = sum(-weights[y] * math.log(p[y]) for p, y, _ in labelled)
    return summed / (len(labelled) if divide_by == "pixels" else sum(weights[y] for _, y, _ in labelled))


def focal(logits: Tensor, target: Tensor, gamma: float, alpha: float | list[float]) -> float:
    """Su et al. 2022, eq. 3, at the true class."""
    losses = []
    for p, y, _ in pixels(logits, target):
        a = alpha[y] if isinstance(alpha, list) else alpha
        losses.append(-a * (1 - p[y]) ** gamma * math.log(p[y]))
    return mean(losses)


def variance(values: list[float]) -> float:
    """Su et al. 2022, eq. 4, in the two-pass form (equal on paper, exact in practice)."""
    centre = sum(values) / len(values)
    return sum((value - centre) ** 2 for value in values) / len(values)


def dropout_terms(
    logits: Tensor, target: Tensor, passes: list[Tensor], u_at: str = "target", u_scale: str = "raw"
) -> Iterator[tuple[float, float, float]]:
    """(u, log p of the ordinary pass, log of the mean p of the passes) of every labelled pixel."""
    t = len(passes)
    largest = (t // 2) * math.ceil(t / 2) / t**2
    for p, y, (b, i, j) in pixels(logits, target):
        drawn = [softmax(z[b, :, i, j].double().tolist()) for z in passes]
        per_class = [variance([q[c] for q in drawn]) for c in range(len(p))]
        u = {"target": per_class[y], "mean": sum(per_class) / len(p), "predicted": per_class[p.index(max(p))]}[u_at]
        yield u / largest if u_scale == "unit" else u, math.log(p[y]), math.log(sum(q[y] for q in drawn) / t)


def dropout_focal(
    logits: Tensor,
    target: Tensor,
    passes: list[Tensor],
    *,
    gamma: float = 2.0,
    alpha: float = 0.75,
    u_at: str = "target",
    u_scale: str = "raw",
    log_p: str = "main",
) -> float:
    """Su et al. 2022, eq. 5."""
    terms = dropout_terms(logits, target, passes, u_at, u_scale)
    return mean([-alpha * u**gamma * (main if log_p == "main" else mc) for u, main, mc in terms])


def jaccard_loss_of_set(wrong: set[int], truth: set[int]) -> float:
    """1 - IoU of a class with true pixels `truth` when exactly the pixels `wrong` are misjudged (Berman, eq. 6)."""
    return len(wrong) / len(truth | wrong)


def lovasz_extension(
    errors: list[float], truth: set[int], set_function: Callable[[set[int], set[int]], float]
) -> float:
    """Berman et al. 2018, definition 2: sum of m_i (Delta(first i) - Delta(first i - 1)) in descending order of m."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    value, wrong, before = 0.0, set[int](), 0.0
    for i in order:
        wrong.add(i)
        now = set_function(wrong, truth)
        value += errors[i] * (now - before)
        before = now
    return value


def lovasz_softmax(logits: Tensor, target: Tensor) -> float:
    """Berman et al. 2018, eq. 8 and 9, over the classes present in the batch."""
    labelled = list(pixels(logits, target))
    losses = []
    for c in range(logits.shape[1]):
        truth = {i for i, (_, y, _) in enumerate(labelled) if y == c}
        if truth:
            errors = [1 - p[c] if y == c else p[c] for p, y, _ in labelled]
            losses.append(lovasz_extension(errors, truth, jaccard_loss_of_set))
    return mean(losses)


def tversky(logits: Tensor, target: Tensor, alpha: float, beta: float) -> float:
    """Salehi et al. 2017, eq. 3, over the classes present in the batch."""
    labelled = list(pixels(logits, target))
    losses = []
    for c in range(logits.shape[1]):
        if any(y == c for _, y, _ in labelled):
            hits = sum(p[c] for p, y, _ in labelled if y == c)
            false_positives = sum(p[c] for p, y, _ in labelled if y != c)
            false_negatives = sum(1 - p[c] for p, y, _ in labelled if y == c)
            losses.append(1 - hits / (hits + alpha * false_positives + beta * false_negatives))
    return mean(losses)
