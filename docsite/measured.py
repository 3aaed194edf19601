"""What the pictures of docs/reading.md show: numbers from the records in results/, and two simulations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lossbench import equivalence, metrics, significance
from lossbench.bootstrap import interval, resampled_miou
from lossbench.cells import short_hash
from lossbench.statistics import paired_difference, t_quantile
from lossbench.store import Store

ROOT = Path(__file__).parents[1]
#: The records drawn: one leaderboard of six seeds a loss.
DATASET, ITERATIONS, REFERENCE = "streets(imbalance=100)", 500, "ce"
SHOWN = ("lovasz_softmax", "balanced_ce", "focal(gamma=2, alpha=0.75)", "cdfl(omega=0.01)")
MARGIN = 0.5
SIMULATED, _SEED = 60, 7
Numbers = dict[str, Any]


def numbers(root: Path = ROOT) -> Numbers:
    """Everything that is drawn, in percent and points."""
    chosen = [
        stored
        for stored in Store(root / "results").read_all()[0]
        if stored.record.labels["dataset"] == DATASET
        and stored.record.cell["protocol"]["iterations"] == ITERATIONS
        and stored.record.labels["loss"] in (REFERENCE, *SHOWN)
    ]
    miou: dict[str, dict[int, float]] = {}
    counts: dict[str, dict[int, Any]] = {}
    for stored in chosen:
        label, seed = stored.record.labels["loss"], stored.record.seed
        miou.setdefault(label, {})[seed] = 100 * metrics.mean_iou(stored.record.confusion)
        counts.setdefault(label, {})[seed] = stored.per_image
    seeds = sorted(miou[REFERENCE])
    rows: dict[str, Any] = {}
    for label in SHOWN:
        paired = paired_difference(miou[label], miou[REFERENCE])
        assert paired is not None
        assert paired.sd is not None
        tested = equivalence.compare(paired, MARGIN)
        assert tested is not None
        differences = [miou[label][seed] - miou[REFERENCE][seed] for seed in seeds]
        rows[label] = {
            "differences": differences,
            "mean": paired.mean,
            "sd": paired.sd,
            "half_width": paired.half_width,
            "half_width_90": t_quantile(len(seeds) - 1, 0.9) * paired.sd / math.sqrt(len(seeds)),
            "p": equivalence.t_test(differences),
            "verdict": tested.verdict,
        }
    for label, adjusted in zip(SHOWN, significance.holm([rows[label]["p"] for label in SHOWN]), strict=True):
        rows[label]["p_holm"] = adjusted
    spread = float(np.median([row["sd"] for row in rows.values()]))
    return {
        "records": sorted(stored.record.id for stored in chosen),
        "seeds": seeds,
        "miou": {label: [found[seed] for seed in seeds] for label, found in miou.items()},
        "rows": rows,
        "sd": spread,
        "power": {str(n): _power(spread, n) for n in (3, 6, 12)},
        "detectable": {str(n): equivalence.detectable(spread, n) for n in (3, 6, 12)},
        "coverage": _coverage(),
        "bootstrap": _bootstrap(counts, "balanced_ce", seeds),
    }


def _power(sd: float, n: int) -> list[list[float]]:
    """How often a paired t-test at 0.05 finds a true difference: [difference, share]."""
    from scipy.special import ncfdtr

    critical = t_quantile(n - 1) ** 2
    grid = np.linspace(0.02, 2.5, 125)
    return [[float(d), float(1 - ncfdtr(1, n - 1, (d * math.sqrt(n) / sd) ** 2, critical))] for d in grid]


def _coverage() -> list[list[float]]:
    """Simulated experiments of 6 seeds with a true difference of 1 and sd 1: [mean, half of the 95 % interval]."""
    drawn = np.random.default_rng(_SEED).normal(1.0, 1.0, (SIMULATED, 6))
    half = t_quantile(5) / math.sqrt(6)
    return [[float(row.mean()), float(half * row.std(ddof=1))] for row in drawn]


def _bootstrap(counts: Mapping[str, Mapping[int, Any]], label: str, seeds: list[int]) -> Numbers:
    """Resampled differences of a loss: over images, over seeds, over both; as counts in bins."""
    ours, theirs = (
        resampled_miou(np.stack([np.asarray(counts[name][seed]) for seed in seeds])) for name in (label, REFERENCE)
    )
    both = ours - theirs
    found = interval(both, len(counts[label][seeds[0]]))
    drawn = np.random.default_rng(_SEED).integers(0, len(seeds), both.shape)
    whole = np.concatenate([both.mean(1), np.take_along_axis(both, drawn, 1).mean(1)])
    edges = np.linspace(whole.min(), whole.max(), 61)
    return {
        "loss": label,
        "low": found.low,
        "high": found.high,
        "edges": edges.tolist(),
        "images": np.histogram(both.mean(1), edges)[0].tolist(),
        "both": np.histogram(np.take_along_axis(both, drawn, 1).mean(1), edges)[0].tolist(),
    }


def digest(data: Numbers) -> str:
    """Of the numbers, to ten digits: machines differ in the last ones."""
    return short_hash(json.loads(json.dumps(data), parse_float=lambda text: f"{float(text):.10g}"))
