"""What all tables share: which columns, which words, which marks. The drawing is each view's own."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from lossbench.metrics import frequency_groups
from lossbench.runs import Run
from lossbench.standings import COLUMNS, Block, Row
from lossbench.tuning.tracks import TUNED, track_of

#: Always wanted, in this order; the first ones stay longest when the terminal is narrow. See `base`.
BASE = ("miou", "delta", "macc", "mprecision", "tail_miou", "ms_per_step", "time_ratio")
#: Added while there is room, in this order.
EXTRA = (
    "n",
    "mrecall",
    "head_miou",
    "middle_miou",
    "mf1",
    "pixel_accuracy",
    "fwiou",
    "image_miou",
    "peak_memory_mb",
    "extra_forwards",
)
#: Of tables for documents, where width is not known.
DOCUMENT = ("n", *BASE[:4], "mrecall", "head_miou", "middle_miou", *BASE[4:])
#: Of the tests on the difference, which they follow where they are asked for.
TESTS = ("p_difference", "p_equivalence", "verdict")
#: Of `--test`, and of `--bootstrap`.
SIGNIFICANCE = ("p", "p_holm")
INTERVALS = ("miou_interval", "delta_interval")
#: Left to right.
_ORDER = {
    key: place
    for place, key in enumerate(
        ["n", "miou", INTERVALS[0], "delta", INTERVALS[1], *SIGNIFICANCE, *TESTS, *list(COLUMNS)[2:]]
    )
}


@dataclass(frozen=True)
class Header:
    """A column: its title, and its unit for a second line or brackets; a unit such as "/step" simply follows."""

    title: str
    unit: str = ""
    numeric: bool = True

    @property
    def one_line(self) -> str:
        return f"{self.title}{self.unit}" if self.unit[:1] in ("", "/") else f"{self.title} ({self.unit})"


@dataclass(frozen=True)
class Entry:
    """A cell: a value, what follows it ("±0.32"), and whether it is the best of its column."""

    text: str
    spread: str = ""
    best: bool = False


@dataclass
class Grid:
    """A table before it is drawn; the first column is words, the others are numbers unless their header says not.

    `apart` are further rows below a line and a heading of their own: published ones.
    """

    headers: list[Header]
    rows: list[list[Entry]]
    apart: list[tuple[str, list[list[Entry]]]] = field(default_factory=list)

    @property
    def lines(self) -> list[list[Entry]]:
        """All rows, without headings."""
        return [*self.rows, *(line for _, lines in self.apart for line in lines)]


def number(value: float | None, digits: int = 2, missing: str = "-") -> str:
    """`value` with fixed digits, or `missing` for None and NaN."""
    return missing if value is None or math.isnan(value) else f"{value:.{digits}f}"


def row_label(row: Row) -> str:
    """The loss, with ! for diverged and ~ for stale runs among its seeds."""
    marks = ("!" if row.diverged else "") + ("~" if row.stale else "")
    return f"{row.label} {marks}".rstrip()


def wanted(keys: Sequence[str], block: Block) -> list[str]:
    """`keys` without those that need a reference, if there is none, and with those of the tests asked for."""
    intervals = INTERVALS if block.resamples is not None else ()
    if not block.has_reference:
        kept = [key for key in keys if key not in ("delta", "time_ratio")]
        return [key for wish in kept for key in ((wish, *intervals[:1]) if wish == "miou" else (wish,))]
    tests = () if block.margin is None else TESTS
    asked = (*(() if block.test is None else SIGNIFICANCE), *tests, *reversed(intervals))
    return [key for wish in keys for key in ((wish, *asked) if wish == "delta" else (wish,))]


def base(block: Block) -> tuple[str, ...]:
    """The columns always wanted. Over one confusion matrix recall equals the accuracy, so that the tail has its place;
    but a paper may print two numbers for them, and no tail."""
    return tuple("mrecall" if key == "tail_miou" and block.published else key for key in BASE)


def chosen(keys: Sequence[str] | None, block: Block) -> list[str]:
    """The columns a user named, as `wanted`; with the difference where a test of it was asked for. Empty for None."""
    if keys is None:
        return []
    tested = block.test is not None or block.margin is not None or block.resamples is not None
    return wanted([*keys, "delta"] if tested and "delta" not in keys else keys, block)


def in_order(keys: Sequence[str]) -> list[str]:
    """Column keys, left to right."""
    return sorted(keys, key=_ORDER.__getitem__)


def header(key: str, block: Block) -> Header:
    if key == "n":
        return Header("n")
    if key in TESTS:
        from lossbench.views import equivalence

        return equivalence.header(key)
    if key in SIGNIFICANCE or key in INTERVALS:
        from lossbench.views import significance

        return significance.header(key)
    column = COLUMNS[key]
    title = f"{column.title} {block.reference_name}" if key in ("delta", "time_ratio") else column.title
    spread = any(row.n > 1 for row in block.rows)
    unit = column.unit + {"miou": " ± sd", "delta": " ± CI"}.get(key, "") * spread
    return Header(title, unit)


def entry(key: str, row: Row, best: float | None) -> Entry:
    """The cell of a summary column. Scores have 2 decimals and their sd over seeds where the column is mIoU."""
    if key == "n":
        return Entry(str(row.n))
    if key in TESTS:
        from lossbench.views import equivalence

        return equivalence.entry(key, row)
    if key in SIGNIFICANCE or key in INTERVALS:
        from lossbench.views import significance

        return significance.entry(key, row)
    value = row.value(key)
    marked = best is not None and not math.isnan(value) and round(value, 2) == best
    if key == "delta":
        if row.is_reference:
            return Entry("ref")
        half = None if row.delta is None else row.delta.half_width
        sign = "" if math.isnan(value) else "+" if round(value, 2) >= 0 else "-"
        return Entry(sign + number(abs(value)), "" if half is None else f"±{half:.{1 + (half < 10)}f}", marked)
    if key == "miou":
        sd = row.describe(key).sd
        return Entry(number(value), "" if sd is None else f"±{sd:.2f}", marked)
    if key in ("peak_memory_mb", "extra_forwards"):
        return Entry(number(value, 0), best=marked)
    if key == "ms_per_step":
        return Entry(number(value, 0 if value >= 1000 else 1), best=marked)
    return Entry(number(value), best=marked)


def summary_grid(block: Block, keys: Sequence[str]) -> Grid:
    """One row per loss, columns by `keys`."""
    ordered = in_order(keys)
    best = {key: block.best(key) if key in COLUMNS else None for key in ordered}
    grid = Grid(
        [Header("loss", numeric=False), *(header(key, block) for key in ordered)],
        [[Entry(row_label(row)), *(entry(key, row, best[key]) for key in ordered)] for row in block.rows],
    )
    if block.published:
        from lossbench.views import published  # rarely asked for, and it brings pydantic

        grid.apart = [(published.heading(table), published.lines(table, ordered)) for table in block.published]
    return grid


def class_grid(block: Block) -> Grid:
    """IoU per class: one row per class, commonest in training first, one column per loss; mean over seeds."""
    rows = []
    for index, line in class_starts(block):
        name = block.class_names[index]
        best = block.best_class_iou(name)
        for row in block.rows:
            value = row.class_iou(name).mean
            line.append(Entry(number(value), best=best is not None and round(value, 2) == best))
        rows.append(line)
    headers = [Header("class", "IoU %", numeric=False), Header("pixels", "train %"), Header("group", "", numeric=False)]
    return Grid(headers + [Header(row_label(row)) for row in block.rows], rows)


def class_starts(block: Block) -> list[tuple[int, list[Entry]]]:
    """Of each class, commonest in training first: its index; name, share of the training pixels, group."""
    pixels = np.asarray(block.train_pixels, dtype=np.float64)
    shares = 100 * pixels / pixels.sum() if pixels.sum() else np.full(len(pixels), np.nan)
    group = {int(c): name for name, classes in frequency_groups(block.train_pixels).items() for c in classes}
    return [
        (index, [Entry(block.class_names[index]), Entry(number(float(shares[index]), 3)), Entry(group[index])])
        for index in np.argsort(-pixels, kind="stable").tolist()
    ]


def runs_grid(runs: Sequence[Run]) -> Grid:
    """One row per run."""
    keys = ("miou", "macc", "mprecision", "mrecall", "ms_per_step")
    headers = [Header("loss", numeric=False), Header("seed"), Header("status", numeric=False)]
    headers += [Header(COLUMNS[key].title, COLUMNS[key].unit) for key in keys]
    headers.append(Header("id", numeric=False))
    rows = []
    for run in runs:
        tuned = ", tuned" if track_of(run.record.cell["protocol"]) == TUNED else ""
        status = run.record.status + tuned + (" ~" if run.stale else "")
        line = [Entry(run.record.labels["loss"]), Entry(str(run.seed)), Entry(status)]
        line += [Entry(number(run.value(key), 1 if key == "ms_per_step" else 2)) for key in keys]
        rows.append([*line, Entry(run.record.id[:10])])
    return Grid(headers, rows)


# --- words ---


def protocol_line(block: Block) -> str:
    """The training protocol in one line; the full one is in every record."""
    p = block.protocol
    parts = [f"{p['iterations']} iterations", f"batch {p['batch_size']}", f"crop {p['crop'][0]}x{p['crop'][1]}"]
    rate = p["lr"] if isinstance(p["lr"], str) else f"{p['lr']:g}"  # a word where it differs from row to row
    parts.append(f"{p['optimizer']} lr {rate} {p['schedule']}")
    if p["amp"] != "none":
        parts.append(str(p["amp"]))
    return ", ".join(parts)


def footer(block: Block, shown: Collection[str] | None = None) -> list[str]:
    """What a reader must know: seeds, split, protocol, the difference, the rules, the warnings. One item a line.

    Of columns that are not among the `shown` ones (None: all are) nothing is said.
    """
    counts = sorted({row.n for row in block.rows})
    seeds = sorted({seed for row in block.rows for seed in row.seeds})
    listed = ", ".join(map(str, seeds)) if len(seeds) <= 8 else f"{seeds[0]} to {seeds[-1]}"
    number_of = str(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    plural = "s" if counts[-1] > 1 else ""
    spread = "Mean ± sd over" if counts[-1] > 1 else "Scores of"
    split = block.protocol["eval_split"]
    lines = [
        f"{spread} {number_of} seed{plural} ({listed}), {split} split; {protocol_line(block)}.",
    ]
    if block.has_reference:
        interval = " ± half of the 95 % t interval" if counts[-1] > 1 else ""
        ratio = " ×: its time per step, paired." if shown is None or "time_ratio" in shown else ""
        lines.append(f"Δ: mIoU minus that of {block.reference} in points, paired over seeds: mean{interval}.{ratio}")
        from lossbench.views import equivalence, significance

        if block.margin is not None:
            lines.append(equivalence.note(block))
        lines += [*significance.note(block), *equivalence.detectable_line(block), *significance.reach(block)]
    if counts[0] == 1:
        lines.append("A row of one seed has no spread and no interval: its differences may be noise.")
    elif counts[0] < 3:
        lines.append("Fewer than 3 seeds: sd and intervals are rough. Run more seeds before ranking losses.")
    accuracy = shown is None or "macc" in shown
    lines.append(
        "Over one confusion matrix mAcc equals mRec by definition. " * accuracy
        + f"Classes in neither truth nor prediction: {block.absent_class_rule} from means."
    )
    lines += block.notes
    if block.published:
        from lossbench.views import published

        lines += [published.note(table) for table in block.published]
    return lines
