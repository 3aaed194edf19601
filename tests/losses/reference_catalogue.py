"""The catalogue's losses as nested loops over pixels, written from their papers. Slow and plain on purpose."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from tests.losses.reference import VOID, mean, pixels


def shares(counts: list[int]) -> list[float]:
    return [count / sum(counts) for count in counts]


def weighted(logits: Tensor, target: Tensor, weights: list[float], by_weights: bool, gamma: float = 0.0) -> float:
    found = list(pixels(logits, target))
    total = sum(-weights[y] * (1 - p[y]) ** gamma * math.log(p[y]) for p, y, _ in found)
    return total / (sum(weights[y] for _, y, _ in found) if by_weights else len(found))


def effective_number(counts: list[int], beta: float) -> list[float]:
    weights = [(1 - beta) / (1 - beta**count) for count in counts]
    return [len(counts) * weight / sum(weights) for weight in weights]


def poly1(logits: Tensor, target: Tensor, epsilon: float) -> float:
    return mean([-math.log(p[y]) + epsilon * (1 - p[y]) for p, y, _ in pixels(logits, target)])


def ohem(logits: Tensor, target: Tensor, threshold: float, least: int) -> float:
    losses = sorted((-math.log(p[y]) for p, y, _ in pixels(logits, target)), reverse=True)
    number = max(sum(loss > -math.log(threshold) for loss in losses), min(least, len(losses)))
    return mean(losses[:number])


def topk(logits: Tensor, target: Tensor, k: float) -> float:
    losses = sorted((-math.log(p[y]) for p, y, _ in pixels(logits, target)), reverse=True)
    return mean(losses[: math.ceil(len(losses) * k / 100)])


def soft_counts(logits: Tensor, target: Tensor) -> list[tuple[float, float, float, int]]:
    """(TP, FP, FN, pixels) per class."""
    classes = logits.shape[1]
    rows = []
    for c in range(classes):
        tp = sum(p[c] for p, y, _ in pixels(logits, target) if y == c)
        fp = sum(p[c] for p, y, _ in pixels(logits, target) if y != c)
        fn = sum(1 - p[c] for p, y, _ in pixels(logits, target) if y == c)
        rows.append((tp, fp, fn, sum(y == c for _, y, _ in pixels(logits, target))))
    return rows


def generalised_dice(logits: Tensor, target: Tensor) -> float:
    above = below = 0.0
    for tp, fp, _, number in soft_counts(logits, target):
        if number:
            above += tp / number**2
            below += (tp + fp + number) / number**2
    return 1 - 2 * above / below


def focal_tversky(logits: Tensor, target: Tensor, alpha: float, beta: float, gamma: float) -> float:
    return mean(
        [
            (1 - tp / (tp + alpha * fp + beta * fn)) ** (1 / gamma)
            for tp, fp, fn, number in soft_counts(logits, target)
            if number
        ]
    )


def nll_of(scores: list[float], label: int) -> float:
    top = max(scores)
    return top + math.log(sum(math.exp(score - top) for score in scores)) - scores[label]


def raw(logits: Tensor, target: Tensor) -> list[tuple[list[float], int]]:
    """(logits, label) of every labelled pixel."""
    return [(logits[b, :, i, j].tolist(), y) for _, y, (b, i, j) in pixels(logits, target)]


def logit_adjusted(logits: Tensor, target: Tensor, counts: list[int], tau: float) -> float:
    priors = shares(counts)
    return mean(
        [nll_of([s + tau * math.log(q) for s, q in zip(z, priors, strict=True)], y) for z, y in raw(logits, target)]
    )


def ldam(logits: Tensor, target: Tensor, counts: list[int], margin: float, scale: float) -> float:
    largest = max(count**-0.25 for count in counts)
    margins = [margin * count**-0.25 / largest for count in counts]
    return mean(
        [nll_of([scale * (s - margins[c] * (c == y)) for c, s in enumerate(z)], y) for z, y in raw(logits, target)]
    )


def seesaw(logits: Tensor, target: Tensor, counts: list[int], p: float, q: float) -> float:
    """Wang et al. 2021, eq. 4 to 7, with the cumulative counts given."""
    numbers = [max(count, 1) for count in counts]
    losses = []
    for z, y in raw(logits, target):
        exps = [math.exp(s - max(z)) for s in z]
        prob = [e / sum(exps) for e in exps]
        below = exps[y]
        for j in range(len(z)):
            if j != y:
                mitigation = (numbers[j] / numbers[y]) ** p if numbers[y] > numbers[j] else 1.0
                compensation = (prob[j] / prob[y]) ** q if prob[j] > prob[y] else 1.0
                below += mitigation * compensation * exps[j]
        losses.append(-math.log(exps[y] / below))
    return mean(losses)


def recall(logits: Tensor, target: Tensor) -> list[float]:
    """Of each class by argmax; NaN where there is none of it."""
    hits, total = [0] * logits.shape[1], [0] * logits.shape[1]
    for p, y, _ in pixels(logits, target):
        total[y] += 1
        hits[y] += p.index(max(p)) == y
    return [h / t if t else math.nan for h, t in zip(hits, total, strict=True)]


def unified_focal(
    logits: Tensor, target: Tensor, counts: list[int], weight: float, delta: float, gamma: float
) -> float:
    rare = [share < 1 / len(counts) for share in shares(counts)]
    focal = mean(
        [
            -math.log(p[y]) * (delta if rare[y] else (1 - delta) * (1 - p[y]) ** gamma)
            for p, y, _ in pixels(logits, target)
        ]
    )
    terms = []
    for c, (tp, fp, fn, number) in enumerate(soft_counts(logits, target)):
        if number:
            missing = 1 - tp / (tp + delta * fn + (1 - delta) * fp)
            terms.append(missing ** (1 - gamma) if rare[c] else missing)
    return weight * focal + (1 - weight) * mean(terms)


def rmi(logits: Tensor, target: Tensor, radius: int, pool: int, weight: float, ridge: float = 5e-4) -> float:
    """Zhao et al. 2019, a class and image at a time, less the value where the truth does not vary."""
    n, classes = logits.shape[:2]
    known = (target != VOID).numpy()
    bce = information = 0.0
    for b in range(n):
        for c in range(classes):
            prob = 1 / (1 + np.exp(-logits[b, c].double().numpy()))
            truth = (target[b] == c).numpy().astype(float)
            each = -(truth * np.log(prob) + (1 - truth) * np.log(1 - prob))
            bce += each[known[b]].sum()
            y, p = _pooled(truth * known[b], pool), _pooled(prob * known[b], pool)
            vectors_y, vectors_p = _regions(y, radius), _regions(p, radius)
            if not len(vectors_y):
                continue
            vectors_y, vectors_p = vectors_y - vectors_y.mean(0), vectors_p - vectors_p.mean(0)
            eye = ridge * np.eye(radius**2)
            cross = vectors_y.T @ vectors_p
            rest = vectors_y.T @ vectors_y - cross @ np.linalg.inv(vectors_p.T @ vectors_p + eye) @ cross.T
            information += 0.5 * (np.linalg.slogdet(rest + eye)[1] - radius**2 * math.log(ridge)) / radius**2
    return weight * bce / known.sum() + (1 - weight) * information / n


def _pooled(values: np.ndarray, pool: int) -> np.ndarray:
    if pool == 1:
        return values
    padded = np.pad(values, pool // 2)
    rows, columns = (padded.shape[0] - pool) // pool + 1, (padded.shape[1] - pool) // pool + 1
    return np.array(
        [
            [padded[pool * i : pool * (i + 1), pool * j : pool * (j + 1)].mean() for j in range(columns)]
            for i in range(rows)
        ]
    )


def _regions(values: np.ndarray, radius: int) -> np.ndarray:
    h, w = values.shape
    return np.array(
        [values[i : i + radius, j : j + radius].ravel() for i in range(h - radius + 1) for j in range(w - radius + 1)]
    ).reshape(-1, radius**2)


def boundary(logits: Tensor, target: Tensor) -> float:
    """Kervadec et al. 2019, eq. 5, every distance by comparing all pairs of pixels."""
    n, _, h, w = logits.shape
    places = [(i, j) for i in range(h) for j in range(w)]
    total, number = 0.0, 0
    for p, _, (b, i, j) in pixels(logits, target):
        number += 1
        for c in range(logits.shape[1]):
            inside = {place for place in places if int(target[b, place[0], place[1]]) == c}
            if not inside or len(inside) == len(places):
                continue
            others = set(places) - inside if (i, j) in inside else inside
            nearest = min(math.dist((i, j), other) for other in others)
            total += p[c] * (1 - nearest if (i, j) in inside else nearest)
    return total / number if n else 0.0
