"""One page per run, many at once: each is made from its record's file alone, by a process per core."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossbench.comparison import protocol
from lossbench.errors import RecordError
from lossbench.onecell import threads_option
from lossbench.readmany import read_record
from lossbench.records import Record
from lossbench.runs import Run
from lossbench.site import runview
from lossbench.site.figuredata import style, thin
from lossbench.site.model import Board, Loss, Site
from lossbench.site.render import page
from lossbench.site.write import write_file
from lossbench.store import StoredRecord

#: Fewer pages than this are not worth starting processes for.
_FEW = 64
_CHUNK = 16


@dataclass(frozen=True)
class Task:
    """A page to make: the record's file, and what it does not say of itself."""

    path: str
    id: str
    block: str
    block_page: str
    loss: Loss
    label: str
    stale: tuple[str, ...]

    @property
    def page(self) -> str:
        return f"runs/{self.id}.html"


@dataclass(frozen=True)
class Made:
    """What a page's making has found out. `problem`: why there is none."""

    id: str
    curve: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def chosen(site: Site, limit: int) -> list[Task]:
    """The runs that get a page: all, or so many of the smallest seeds of every row that there are at most `limit`
    (but at least one a row, unless the limit is 0)."""
    if limit <= 0:
        return []
    per_row = max((row.n for board in site.boards for row in board.block.rows), default=0)
    rows = sum(len(board.block.rows) for board in site.boards)
    if site.runs > limit:
        per_row = max(1, limit // max(rows, 1))
    return [task for board in site.boards for task in _tasks(board, per_row)]


def _tasks(board: Board, most: int) -> Iterator[Task]:
    for row, loss in zip(board.block.rows, board.losses, strict=True):
        stale = {int(at): part.stale for part in row.runs.parts if part.stale for at in part.rows}
        places = zip(row.runs.rows.tolist()[:most], row.runs.ids[:most], strict=True)
        for place, run_id in places:
            path = str(row.runs.table.path(place))
            yield Task(path, run_id, board.block.title, board.page, loss, row.label, stale.get(place, ()))


def make_pages(tasks: Sequence[Task], folder: Path, frame: Mapping[str, Any]) -> Iterator[Made]:
    """Write the pages below `folder`; yields in the order of the tasks."""
    chunks = [tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if len(tasks) < _FEW or cores < 2:
        for chunk in chunks:
            yield from _make(chunk, folder, frame)
        return
    with ProcessPoolExecutor(min(cores, 8)) as pool:
        for found in pool.map(_make, chunks, [folder] * len(chunks), [frame] * len(chunks)):
            yield from found


def _make(tasks: Iterable[Task], folder: Path, frame: Mapping[str, Any]) -> list[Made]:
    return [_made(task, folder, frame) for task in tasks]


def _made(task: Task, folder: Path, frame: Mapping[str, Any]) -> Made:
    try:
        record = read_record(Path(task.path))
    except (RecordError, OSError) as error:
        return Made(task.id, problem=f"no page for {task.path}: {error}")
    write_file(folder, task.page, render_run(record, task, frame))
    kept = thin(len(record.curve.get("step", ())), 400)
    curve = {
        key: [values[i] for i in kept] if key in ("step", "loss") and len(values) > kept[-1] else values
        for key, values in record.curve.items()
        if key in ("step", "loss", "eval_step", "eval_miou") and kept
    }
    return Made(task.id, curve, _facts(record.provenance))


def _facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("lossbench", "protocol", "packages", "hardware", "git", "started", "finished", "os")
    return {key: provenance.get(key) for key in keys}


def render_run(record: Record, task: Task, frame: Mapping[str, Any]) -> str:
    """The HTML of one run."""
    run = Run(StoredRecord(record, Path(task.path)), task.stale)
    data = runview.curve_data(record)
    if data is not None:
        data["loss"] = style(task.loss, task.label)
    return page(
        "run.html",
        1,
        **frame,
        task=task,
        record=record,
        averaged=runview.fine_lines(run),
        scores=runview.score_lines(record),
        miou=run.pooled["miou"],
        classes=runview.class_lines(record),
        matrix=runview.confusion_rows(record),
        matrix_head=runview.confusion_head(record),
        phases=runview.phases(record),
        protocol=protocol(record),
        provenance=runview.provenance_lines(record),
        origin=runview.origin(record),
        threads=threads_option(record),
        diagnostics=runview.diagnostic_lines(record),
        figure=data,
    )
