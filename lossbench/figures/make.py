"""Every figure from blocks of a leaderboard to a drawing with its caption and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lossbench.aggregates import performance_profile
from lossbench.cells import short_hash
from lossbench.contrast import contrast
from lossbench.errors import ConfigError
from lossbench.figures import classes, curves, gain, kept, panels, profile, ranks, sweep, tuning
from lossbench.figures.choice import facts, label, unmarked
from lossbench.figures.overlay import NARROW
from lossbench.figures.saving import save
from lossbench.figures.style import PAPER_WIDTH, paper_style
from lossbench.ranking import Ranking, rank
from lossbench.ranktests import FEWEST_BLOCKS
from lossbench.readmany import read_record
from lossbench.standings import Block
from lossbench.statistics import CONFIDENCE
from lossbench.store import Store
from lossbench.tuning.curves import Group
from lossbench.tuning.space import shown
from lossbench.views.grid import protocol_line


@dataclass(frozen=True)
class Drawing:
    """A figure, what a paper says below it, the numbers in it as JSON, and the ids of the records behind it."""

    figure: Figure
    title: str
    caption: str
    data: Any
    records: list[str]

    @property
    def digest(self) -> str:
        """Of the numbers in it and the records behind it: stands in the file, so that a reader can tell whether a
        picture is still what the records say."""
        return short_hash({"data": self.data, "records": self.records})

    def save(self, path: Path) -> None:
        """As PNG, SVG or PDF, by the ending of the name. Raises ConfigError, SetupError."""
        with paper_style():
            save(self.figure, path, title=self.title, description=f"{self.caption} Numbers: {self.digest}.")


def make_classes(
    block: Block, *, style: classes.Style | None = None, width: float = PAPER_WIDTH, reference: str = "ce"
) -> Drawing:
    """IoU per class. `style` None: bars where they fit."""
    scores = classes.class_scores(block, reference)
    with paper_style():
        figure = classes.draw(scores, width=width, style=style)
    title = f"IoU per class on {block.title}"
    whiskers = "; whiskers: sd over seeds" if max(scores.seeds) > 1 else ""
    lead = f"{title}, classes by their share of the training pixels, the commonest first{whiskers}."
    return Drawing(figure, title, " ".join([lead, *facts(block)]), scores.to_json(), _ids([block]))


def make_curves(block: Block, *, width: float = PAPER_WIDTH, reference: str = "ce") -> Drawing:
    """Training loss and validation mIoU over the steps."""
    found = curves.lines(block, lambda path: read_record(path).curve, reference)
    with paper_style():
        figure = curves.draw(found, width=width)
    title = f"Learning curves on {block.title}"
    lead = f"{title}: training loss (mean over {100 * curves.SMOOTHING:.0f} % of the points around each)"
    scored = any(line is not None for line in found[curves.MIOU])
    lead += f" and mIoU of the {block.protocol['eval_split']} split" if scored else ""
    lead += "; bands: sd over seeds." if any(row.n > 1 for row in block.rows) else "."
    data = {key: [line.to_json() for line in lines if line is not None] for key, lines in found.items()}
    return Drawing(figure, title, " ".join([lead, *facts(block)]), data, _ids([block]))


def make_sweep(
    blocks: Sequence[Block],
    parameter: str,
    *,
    metrics: Sequence[str] = sweep.METRICS,
    width: float = PAPER_WIDTH,
    reference: str = "ce",
) -> Drawing:
    """Scores over a parameter of the dataset."""
    series = sweep.metric_over_parameter(blocks, parameter, metrics, reference)
    with paper_style():
        figure = sweep.draw(series, parameter, width=width)
    name = blocks[0].parts[0].condition.cell["dataset"]["name"]
    title = f"Scores over '{parameter}' of {name} / {blocks[0].backbone}"
    numbers = sorted({n for each in series for n in each.seeds})
    runs = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    lead = f"{title}: means over {runs} seed{'s' * (numbers[-1] > 1)} a point"
    lead += f", whiskers: {100 * CONFIDENCE:.0f} % t interval of the mean." if numbers[-1] > 1 else "."
    notes = list(dict.fromkeys(note for block in blocks for note in block.notes))
    data = [entry for each in series for entry in each.to_json()]
    return Drawing(figure, title, " ".join([lead, f"{protocol_line(blocks[0])}.", *notes]), data, _ids(blocks))


def make_ranks(blocks: Sequence[Block], *, width: float = PAPER_WIDTH) -> Drawing:
    """Critical-difference diagram. Raises ConfigError with too few blocks for one."""
    found = rank(blocks)
    if found.critical is None:
        raise ConfigError(
            f"{len(found.blocks)} blocks are too few for a critical-difference diagram: it takes {FEWEST_BLOCKS}",
            hint="`lossbench ranks` has the ranks, `lossbench figure profile` the scores",
        )
    with paper_style():
        figure = ranks.draw(found, width=width)
    title = f"Mean ranks over {len(found.blocks)} blocks"
    lead = f"{title}: losses under one bar are not told apart (Nemenyi test at 0.05, critical difference "
    lead += f"{found.critical:.2f})."
    data = {"mean_ranks": dict(zip(found.losses, found.mean_ranks.tolist(), strict=True)), "critical": found.critical}
    return Drawing(figure, title, " ".join([lead, *_ranked(found)]), data, _ids(blocks))


def make_profile(blocks: Sequence[Block], *, width: float = PAPER_WIDTH) -> Drawing:
    """Performance profile over the runs of all blocks."""
    found = rank(blocks)
    with paper_style():
        figure = profile.draw(found, width=width)
    number = len(found.blocks)
    title = f"Performance profile over {number} block{'s' * (number > 1)}"
    lead = f"{title}: share of the runs above a score; each block has the same weight; further right is better."
    levels = profile.levels(found)
    shares = performance_profile(found.relative, levels)
    data = {"levels": levels.tolist(), "shares": dict(zip(found.losses, shares.tolist(), strict=True))}
    return Drawing(figure, title, " ".join([lead, *_ranked(found)]), data, _ids(blocks))


def _ranked(found: Ranking) -> list[str]:
    return [f"Blocks: {'; '.join(found.blocks)}.", *found.notes]


def make_gain(block: Block, *, width: float = PAPER_WIDTH) -> Drawing:
    """Gain per class of the block's one loss over the reference. Raises ConfigError for more than one, or none."""
    rows = [row for row in block.rows if not row.is_reference]
    if len(rows) != 1 or rows[0].reference is None:
        shown = ", ".join(row.label for row in rows[:4]) or "none"
        raise ConfigError(f"of which loss? These are shown: {shown}", hint="name one with --loss, and its --reference")
    found = contrast(block, rows[0], rows[0].reference)
    if found is None:
        raise ConfigError(f"{rows[0].label} and {block.reference} share no seed", hint="run the missing seeds")
    with paper_style():
        figure = gain.draw(found, width=width)
    title = f"Gain of {found.ours} over {found.theirs} on {block.title}"
    lead = (
        f"{title}: difference in IoU per class with its 95 % t interval over {found.miou.n} paired seeds; line: mean "
    )
    lead += "slope over log10 of the share; dashed: mIoU."
    data = {
        "miou": found.miou.mean,
        "slope": None if found.slope is None else found.slope.mean,
        "classes": {each.name: None if each.gain is None else each.gain.mean for each in found.classes},
    }
    return Drawing(figure, title, " ".join([lead, *facts(block)]), data, _ids([block]))


def make_tuning(group: Group, *, width: float = PAPER_WIDTH) -> Drawing:
    """Every trial of a search, and the expected best of n."""
    with paper_style():
        figure = tuning.draw(group, width=width)
    title = f"Equal tuning on {group.dataset} / {group.backbone}"
    lead = (
        f"{title}: {group.budget}. Left: hold-out mIoU of every trial; cross: the loss as is, ring: the choice. Right: "
    )
    lead += "expected best of n trials (Dodge et al. 2019)."
    data = {curve.loss: [[shown(trial.setting), trial.score] for trial in curve.trials] for curve in group.curves}
    ids = sorted({run for curve in group.curves for trial in curve.trials for run in trial.ids})
    return Drawing(figure, title, lead, data, ids)


def make_panels(
    block: Block,
    store: Store,
    *,
    seed: int | None = None,
    images: Sequence[str] = (),
    columns: int | None = None,
    width: float = PAPER_WIDTH,
    reference: str = "ce",
    plugins: Sequence[Path] = (),
    data_root: Path | None = None,
) -> tuple[Drawing, list[str]]:
    """Image, truth and predictions; and the losses that are missing, for they have kept none."""
    runs = kept.kept_runs(block, store, seed=seed, reference=reference)
    dataset = kept.open_dataset(block, runs[0], plugins, data_root)
    shown = kept.read_images(block, runs, dataset, images)
    legend = panels.Legend(dataset.class_names, dataset.colors, dataset.ignore_index)
    with paper_style():
        figure = panels.draw(shown, legend, width=width, columns=columns)
    title = f"Predictions on {block.title}"
    names = ", ".join(each.name for each in shown)
    caption = (
        f"{title}, seed {runs[0].seed}, {runs[0].split} images {names}. Hatched and outlined: wrong (regions narrower "
        f"than {100 * NARROW:.1f} % of the width are not marked). mIoU (%): of that image alone. "
        f"{protocol_line(block)}."
    )
    if dataset.licence:
        caption += f" Licence of the images: {dataset.licence}."
    data = [
        {"image": each.name, "seed": runs[0].seed, "miou": {unmarked(name): miou for name, miou in each.miou.items()}}
        for each in shown
    ]
    drawn = {run.label for run in runs}
    ids = [run_id for row in block.rows for run_id in row.runs.ids]
    rows = [int(index) for row in block.rows for index in row.runs.rows.tolist()]
    by_row = dict(zip(rows, ids, strict=True))
    missing = [label(row) for row in block.rows if label(row) not in drawn]
    return Drawing(figure, title, caption, data, [by_row[run.row] for run in runs]), missing


def _ids(blocks: Sequence[Block]) -> list[str]:
    return [run_id for block in blocks for row in block.rows for run_id in row.runs.ids]
