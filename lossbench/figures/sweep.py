"""A score of every loss against a parameter of the dataset, e.g. mIoU over the imbalance of `streets`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lossbench.cells import canonical_json
from lossbench.errors import ConfigError, did_you_mean
from lossbench.figures.choice import different_protocols, in_order, label, unmarked
from lossbench.figures.style import PAPER_WIDTH, Look, legend_above, legend_height
from lossbench.standings import COLUMNS, Block, Row
from lossbench.statistics import t_quantile

METRICS = ("miou", "tail_miou")


@dataclass(frozen=True)
class Series:
    """One metric of one loss over the parameter.

    Attributes:
        x: (n) values of the parameter, rising.
        mean: (n) over seeds, in the metric's unit.
        half_width: (n) of the 95 % t interval of the mean; NaN with one seed.
        seeds: (n) number of runs.
    """

    label: str
    metric: str
    x: NDArray[np.float64]
    mean: NDArray[np.float64]
    half_width: NDArray[np.float64]
    seeds: list[int]

    def to_json(self) -> list[dict[str, Any]]:
        columns = zip(self.x.tolist(), self.mean.tolist(), self.half_width.tolist(), self.seeds, strict=True)
        return [
            {"loss": unmarked(self.label), "metric": self.metric, "x": x, "mean": mean, "half_width": half, "n": n}
            for x, *values, n in columns
            for mean, half in [[value if math.isfinite(value) else None for value in values]]
        ]


def metric_over_parameter(
    blocks: Sequence[Block], parameter: str, metrics: Sequence[str] = METRICS, reference: str = "ce"
) -> list[Series]:
    """Every metric of every loss over a dataset's parameter, metric by metric, losses in the order of all figures.

    Args:
        blocks: of datasets that differ in `parameter` alone, one backbone, one protocol.
        parameter: of the dataset's constructor.
        metrics: keys of `standings.COLUMNS` that are scores.

    Raises ConfigError when a metric or the parameter is unknown, or the blocks differ in more than the parameter.
    """
    _check_metrics(metrics)
    at = _by_value(blocks, parameter)
    first = at[min(at)]
    # The same loss is found by what it is: labels show only what a suite spelled out.
    rows: dict[str, dict[float, Row]] = {}
    for block in [first, *at.values()]:
        for row in in_order(block, reference):
            rows.setdefault(canonical_json(row.loss), {})
    for x, block in at.items():
        for row in block.rows:
            rows[canonical_json(row.loss)][x] = row
    return [_series(found, metric) for metric in metrics for found in rows.values()]


def _series(found: Mapping[float, Row], metric: str) -> Series:
    xs = sorted(found)
    described = [found[x].describe(metric) for x in xs]
    half = [math.nan if d.sd is None else t_quantile(d.n - 1) * d.sd / d.n**0.5 for d in described]
    return Series(
        label(*(found[x] for x in xs)),
        metric,
        np.array(xs, dtype=np.float64),
        np.array([d.mean for d in described]),
        np.array(half),
        [d.n for d in described],
    )


def _check_metrics(metrics: Sequence[str]) -> None:
    scores = [key for key, column in COLUMNS.items() if column.unit == "%"]
    for metric in metrics:
        if metric not in scores:
            hint = did_you_mean(metric, scores) or f"one of: {', '.join(scores)}"
            raise ConfigError(f"'{metric}' is no score", hint=hint)


def _by_value(blocks: Sequence[Block], parameter: str) -> dict[float, Block]:
    """The one block of each value of the parameter. Raises ConfigError."""
    at: dict[float, Block] = {}
    others: dict[str, str] = {}
    for block in blocks:
        dataset = block.parts[0].condition.cell["dataset"]
        params = dict(dataset["params"])
        if parameter not in params:
            hint = did_you_mean(parameter, params) or f"it has: {', '.join(params) or 'none'}"
            raise ConfigError(f"dataset {dataset['name']} has no parameter '{parameter}'", hint=hint)
        value = params.pop(parameter)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"'{parameter}' of {dataset['name']} is no number: {value!r}")
        others[canonical_json([dataset["name"], params])] = block.dataset
        if len(others) > 1:
            raise ConfigError(
                f"the datasets differ in more than '{parameter}': {' and '.join(others.values())}",
                hint="choose those that differ in it alone with --dataset, e.g. 'streets(imbalance=*)'",
            )
        if float(value) in at:
            same = [at[float(value)], block]
            if same[0].backbone != same[1].backbone:
                names = " and ".join(each.backbone for each in same)
                raise ConfigError(f"the runs are of several backbones: {names}", hint="choose one with --backbone")
            raise different_protocols(same)
        at[float(value)] = block
    first, *rest = at.values()
    for block in rest:
        keys = [key for key, value in first.protocol.items() if block.protocol.get(key) != value]
        if keys or first.protocol.keys() != block.protocol.keys():
            raise ConfigError(
                f"{first.dataset} and {block.dataset} were trained by different protocols: {', '.join(keys)}",
                hint="run all points of a sweep by one suite, or choose with --variant",
            )
    if len(at) < 2:
        raise ConfigError(
            f"all runs have the same '{parameter}': {next(iter(at)):g}",
            hint=f"run a suite whose dataset has a list of values for it, e.g. {parameter}: [10, 100, 1000]",
        )
    return at


def draw(series: Sequence[Series], parameter: str, *, width: float = PAPER_WIDTH) -> Figure:
    """A graph per metric, a line per loss, whiskers for the 95 % interval; marks stand a little apart."""
    metrics = list(dict.fromkeys(each.metric for each in series))
    labels = list(dict.fromkeys(each.label for each in series))
    figure = Figure(figsize=(width, 2.3 + legend_height(labels, width)), layout="constrained")
    values = sorted({x for each in series for x in each.x.tolist()})
    log = values[0] > 0 and values[-1] >= 8 * values[0]
    handles: dict[str, Any] = {}
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for each in series:
            if each.metric != metric:
                continue
            place = labels.index(each.label)
            look = Look.of(place)
            x = _aside(each.x, place - (len(labels) - 1) / 2, len(labels), values, log)
            ends = np.stack([np.minimum(each.half_width, each.mean), each.half_width])  # no score is below 0
            handles[each.label] = axes.errorbar(
                x, each.mean, ends, color=look.color, linestyle=look.dashes, elinewidth=0.7, capsize=1.5,
                capthick=0.7, **look.mark(3.5),
            )  # fmt: skip
        if log:
            axes.set_xscale("log")
        axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.minorticks_off()
        axes.set_xlabel(parameter + (" (log scale)" if log else ""))
        column = COLUMNS[metric]
        axes.set_ylabel(f"{'tail mIoU' if metric == 'tail_miou' else column.title} ({column.unit})")
        low, high = axes.get_ylim()
        axes.set_ylim(bottom=max(low, -0.03 * high))  # marks at 0 are whole
    legend_above(figure, [handles[name] for name in labels], labels)
    return figure


def _aside(
    x: NDArray[np.float64], place: float, losses: int, values: Sequence[float], log: bool
) -> NDArray[np.float64]:
    """x moved so that whiskers of neighbours do not hide each other: all of them within a fifth of the least gap."""
    scale = np.log10(values) if log else np.asarray(values)
    step = place * min(0.04, 0.2 / losses) * float(np.diff(scale).min())
    moved: NDArray[np.float64] = x * 10**step if log else x + step
    return moved
