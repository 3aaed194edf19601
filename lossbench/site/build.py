"""A report from its model: every page, figure and download, into a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lossbench
from lossbench.errors import ConfigError
from lossbench.ranking import Ranking, rank
from lossbench.registry import Registry
from lossbench.site import dials as dialdata
from lossbench.site import figuredata, history, lossinfo, tables
from lossbench.site.judge import corrected
from lossbench.site.lossinfo import record_of
from lossbench.site.model import Board, Site
from lossbench.site.panels import panels
from lossbench.site.render import FOLDER, page
from lossbench.site.runpages import Made, Task, chosen, make_pages
from lossbench.site.searches import figure as search_figure
from lossbench.site.searches import searches
from lossbench.site.svg import Axis, axis_labels, interval
from lossbench.site.write import Folder
from lossbench.store import Store
from lossbench.tuning.tracks import TUNED
from lossbench.views import data, latex
from lossbench.views.equivalence import found_by
from lossbench.views.grid import footer, protocol_line
from lossbench.views.ranking import notes as ranking_notes

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wishes:
    """How a report is made.

    Attributes:
        title: of the report, on every page.
        stamp: when it was made, as pages print it: the only bytes that differ between two reports of the same records.
        run_pages: the most runs that get a page of their own; 0: none.
        plugins, data_root: where panels find the dataset.
    """

    title: str = "lossbench"
    stamp: str = ""
    run_pages: int = 5000
    plugins: tuple[Path, ...] = ()
    data_root: Path | None = None


def write_report(site: Site, store: Store, losses: Registry, out: Path, wishes: Wishes, say: Say) -> list[str]:
    """Write the report; returns warnings. Raises ConfigError or SetupError when `out` cannot take it."""
    folder = Folder(out)
    try:
        warnings = _Report(site, store, losses, folder, wishes, say).write()
        folder.publish()
    finally:
        folder.discard()
    return warnings


def _ranking(site: Site) -> Ranking | None:
    """Over all leaderboards; None with one, or where nothing can be ranked."""
    blocks = [board.block for board in site.boards if board.block.track != TUNED]  # whose rows are other losses
    if len(blocks) < 2:
        return None
    try:
        return rank(blocks)
    except ConfigError:
        return None


def _other_track(board: Board, other: Board) -> bool:
    """Whether `other` holds the same dataset and backbone on another track."""
    ours, theirs = board.block, other.block
    return (ours.dataset, ours.backbone) == (theirs.dataset, theirs.backbone) and ours.track != theirs.track


class _Report:
    def __init__(self, site: Site, store: Store, losses: Registry, folder: Folder, wishes: Wishes, say: Say) -> None:
        self.site, self.store, self.registry, self.folder, self.wishes, self.say = (
            site, store, losses, folder, wishes, say,
        )  # fmt: skip
        self.frame: dict[str, Any] = {
            "title": wishes.title,
            "version": lossbench.__version__,
            "reference": site.reference,
        }
        self.made: dict[str, Made] = {}
        self.dials = dialdata.dials(site)

    def write(self) -> list[str]:
        warnings = self._runs(chosen(self.site, self.wishes.run_pages))
        for board in self.site.boards:
            self._board(board)
        for dial in self.dials:
            figure = dialdata.figure(dial, self.site.reference)
            self.folder.add(dial.page, page("dial.html", 1, **self.frame, dial=dial, figure=figure, site=self.site))
        for name in self.site.loss_names:
            self._loss(name)
        self.folder.add("guide.html", page("guide.html", **self.frame, site=self.site, rules=lossinfo.rules()))
        self._overview()
        self._assets()
        return warnings

    def _runs(self, tasks: Sequence[Task]) -> list[str]:
        warnings = []
        for number, made in enumerate(make_pages(tasks, self.folder.staging, self.frame), start=1):
            if made.problem:
                warnings.append(made.problem)
                continue
            self.made[made.id] = made
            self.folder.names.append(f"runs/{made.id}.html")
            if number % 1000 == 0:
                self.say(f"{number:,} of {len(tasks):,} run pages")
        return warnings

    def _board(self, board: Board) -> None:
        block = board.block
        axis = Axis.of(row.delta for row in block.rows)
        bars = [interval(row.delta, axis, found.verdict) for row, found in zip(block.rows, board.judged, strict=True)]
        curves = figuredata.learning_curves(block.rows, {key: made.curve for key, made in self.made.items()})
        found, figure = searches(board, self.site.table), figuredata.figures(board, curves)
        if found is not None and not found.problem:
            figure["tuning"] = search_figure(found)
        shown, files = panels(board, self.store, self.wishes.plugins, self.wishes.data_root)
        for name, content in files.items():
            self.folder.add(name, content)
        for ending, text in self._downloads(board).items():
            self.folder.add(f"data/{board.slug}.{ending}", text)
        html = page(
            "block.html",
            1,
            **self.frame,
            site=self.site,
            board=board,
            block=block,
            bars=bars,
            axis=axis_labels(axis),
            protocol=protocol_line(block),
            notes=footer(block),
            sensitivity=found_by(block),
            corrected=corrected(block),
            heat=tables.heat_map(board),
            columns=tables.class_columns(block),
            seeds=tables.seed_table(board),
            pages=self.made.keys(),
            figure=figure,
            searches=found,
            panels=shown,
            dials=[dial for dial in self.dials if board in dial.boards],
            tracks=[other for other in self.site.boards if _other_track(board, other)],
        )
        self.folder.add(board.page, html)

    def _downloads(self, board: Board) -> Mapping[str, str]:
        blocks = [board.block]
        return {
            "csv": data.render_csv(blocks, per_class=True),
            "json": data.render_json(blocks),
            "tex": latex.render(blocks, per_class=True),
        }

    def _loss(self, name: str) -> None:
        losses = self.site.of_name(name)
        record = record_of(self.site, losses)
        bars = [interval(each.row.delta, record.axis, each.judged.verdict) for each in record.standings]
        html = page(
            "loss.html",
            1,
            **self.frame,
            site=self.site,
            name=name,
            losses=losses,
            about=lossinfo.about(name, self.registry),
            rules=lossinfo.rules(),
            record=record,
            bars=bars,
            axis=axis_labels(record.axis),
        )
        self.folder.add(losses[0].page, html)

    def _overview(self) -> None:
        bars = {}
        for board in self.site.boards:
            axis = Axis.of(row.delta for row in board.block.rows)
            pairs = zip(board.block.rows, board.judged, strict=True)
            bars[board.slug] = [interval(row.delta, axis, found.verdict) for row, found in pairs]
        html = page(
            "overview.html",
            **self.frame,
            site=self.site,
            stamp=self.wishes.stamp,
            bars=bars,
            scale=tables.overview_scale(self.site.boards),
            dials=self.dials,
            settings=history.settings(made.facts for made in self.made.values()),
            read=len(self.made),
            code=history.code(self.site),
            corrected={board.slug: corrected(board.block) for board in self.site.boards},
            ranking=_ranking(self.site),
            ranking_notes=ranking_notes,
        )
        self.folder.add("index.html", html)

    def _assets(self) -> None:
        from plotly.offline import get_plotlyjs

        self.folder.add("assets/plotly.min.js", get_plotlyjs())
        for file in sorted((FOLDER / "static").iterdir()):
            self.folder.add(f"assets/{file.name}", file.read_bytes())
        self.folder.add(".nojekyll", "")  # GitHub Pages then serves the files as they are
