"""How many things each image gets, so that the pixels of a split meet the dial.

Shares of classes cannot be written down: things hide each other. So the knobs of the generator are calibrated on
pilot scenes (labels only), once per set of dials and independent of the seed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets.streetscene import classes as cl
from lossbench.datasets.streetscene.layout import Knobs
from lossbench.datasets.streetscene.render import render

#: Pilot scenes per round, and rounds. The last rounds' measurements are averaged.
_PILOTS, _ROUNDS, _AVERAGED = 32, 9, 5
#: Things of a class a pilot scene has at least, so that what one of them covers can be measured.
_PILOT_RATE = 0.3
#: Things of each class a split has at least: a class that is never seen cannot be learnt or scored.
MIN_THINGS = 4
_PILOT_HEIGHT = 96
#: Things of a class per image at most: beyond it they only hide each other.
_MOST_THINGS = 30.0


@lru_cache(maxsize=128)
def calibrate(imbalance: float, tail_size: float, aspect: float) -> Knobs:
    """Knobs for which classes get `target_shares(imbalance)` of the labelled pixels in expectation.

    Args:
        imbalance: ratio of the commonest to the rarest class.
        tail_size: factor on the linear size of rare things (their number makes up for it).
        aspect: width / height of the images.
    """
    height, width = _PILOT_HEIGHT, max(16, round(_PILOT_HEIGHT * aspect))
    wanted = cl.target_shares(imbalance)
    areas = cl.thing_areas(imbalance, tail_size)
    rates = {c: float(wanted[c] / areas[c]) for c in cl.THINGS}
    knobs = Knobs(ground=0.52, pavement=0.3, walls=1.0, rates=rates, areas=areas)
    covers: dict[int, list[float]] = {c: [] for c in cl.THINGS}
    history = []
    for round_number in range(_ROUNDS):
        shares, cover = _pilot(knobs, height, width, round_number)
        for c, value in cover.items():
            covers[c].append(value)
        seen, ground_wanted = (float(s[cl.ROAD] + s[cl.PAVEMENT]) for s in (shares, wanted))
        paved = (wanted[cl.PAVEMENT] / ground_wanted) / (shares[cl.PAVEMENT] / seen)
        built = wanted[cl.BUILDING] / shares[cl.BUILDING]
        knobs = replace(
            knobs,
            ground=float(np.clip(knobs.ground * (ground_wanted / seen) ** 0.5, 0.25, 0.75)),
            pavement=float(np.clip(knobs.pavement * paved**0.4, 0.01, 0.85)),
            walls=float(np.clip(knobs.walls * built**0.6, 0.15, 4.0)),
            rates={
                c: min(_MOST_THINGS, float(wanted[c]) / max(1e-9, float(np.mean(covers[c][-_AVERAGED:]))))
                for c in cl.THINGS
            },
        )
        history.append((knobs.ground, knobs.pavement, knobs.walls))
    ground, pavement, walls = np.mean(history[-_AVERAGED:], axis=0).tolist()
    # Four digits: differences in the last bits between machines must not move a thing from image to image.
    return replace(
        knobs,
        ground=float(f"{ground:.4g}"),
        pavement=float(f"{pavement:.4g}"),
        walls=float(f"{walls:.4g}"),
        rates={c: float(f"{rate:.4g}") for c, rate in knobs.rates.items()},
    )


def _pilot(knobs: Knobs, height: int, width: int, round_number: int) -> tuple[NDArray[np.float64], dict[int, float]]:
    """Shares of the labelled pixels at the knobs' rates, and what one thing of each class covers of them."""
    rates = {c: max(rate, _PILOT_RATE) for c, rate in knobs.rates.items()}
    counts = thing_counts(np.random.default_rng(round_number), _PILOTS, {c: _PILOTS * r for c, r in rates.items()})
    pixels = np.zeros(256, np.int64)
    for index in range(_PILOTS):
        rng = np.random.Generator(np.random.Philox(key=[round_number + 1, index]))
        per_class = {c: int(n[index]) for c, n in counts.items()}
        _, labels = render(rng, knobs, per_class, height, width, paint=False)
        pixels += np.bincount(labels.ravel(), minlength=256)
    labelled = pixels[: len(cl.NAMES)]
    shares = np.maximum(labelled / labelled.sum(), 1e-6)
    # Posts of signs are poles: a pole's cover is counted with them, which is what its rate must make up for.
    cover = {c: float(shares[c]) * _PILOTS / int(counts[c].sum()) for c in cl.THINGS}
    return shares, cover


def thing_counts(rng: np.random.Generator, images: int, totals: dict[int, float]) -> dict[int, NDArray[np.int64]]:
    """Things per image (N,) of each class. The total of a split is exact (no Poisson noise in rare classes), which
    images get them is random."""
    return {
        c: np.bincount(rng.integers(0, images, max(MIN_THINGS, round(total))), minlength=images)
        for c, total in totals.items()
    }
