"""What is known of a cell that was handed to a cluster, from files alone: no Slurm is asked, no torch imported.

    <results>/runs/<cell id>/submission.json      there while the cell is queued or running: job, folder, its neighbours
    <results>/slurm/<folder>/<cell id>.exit       the exit code of its worker in that submission
    <results>/slurm/<folder>/<cell id>.asked      `leave` or `kill`: what it was asked to do

What belongs to one submission lies in its folder, so that nothing of an older one is ever taken for news.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lossbench import files
from lossbench.execution.spec import write_json

FILE = "submission.json"
Ask = Literal["leave", "kill"]


@dataclass(frozen=True)
class Submission:
    """A task of a cluster's job, and the cells that are packed into it.

    Attributes:
        results: the results folder.
        name: of the submission's folder in <results>/slurm.
        job: as the cluster names it: `123`, or `123_4` for a task of an array.
        cells: ids of all cells of the task.
        submitted: Unix time.
    """

    results: Path = field(compare=False)
    name: str
    job: str
    cells: tuple[str, ...] = field(compare=False)
    submitted: float = field(default=0.0, compare=False)

    @property
    def folder(self) -> Path:
        return self.results / "slurm" / self.name

    def write(self) -> None:
        """Leave word of it in the run folder of each of its cells that has not ended."""
        data = {"executor": "slurm", "job": self.job, "folder": self.name, "cells": self.cells}
        for cell in self.cells:
            if self.exit_code(cell) is None:
                write_json(self._file(cell), {**data, "submitted": self.submitted or time.time()})

    def exit_code(self, cell: str) -> int | None:
        """With what its worker ended, None while it has not."""
        try:
            return int((self.folder / f"{cell}.exit").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def ended(self, cell: str, code: int) -> None:
        """Note the end of a cell's worker."""
        _write(self.folder / f"{cell}.exit", str(code))
        self.forget(cell)

    def forget(self, cell: str) -> None:
        """The cell is no longer queued or running by this submission. What cannot be removed is found out by the next
        who asks Slurm."""
        if read_submission(self.results / "runs" / cell) == self:
            with contextlib.suppress(OSError):
                self._file(cell).unlink(missing_ok=True)

    def asked(self, cell: str) -> Ask | None:
        """What the cell was asked to do."""
        try:
            word = (self.folder / f"{cell}.asked").read_text(encoding="ascii")
        except OSError:
            return None
        return "kill" if word == "kill" else "leave"

    def ask(self, cell: str, what: Ask) -> None:
        _write(self.folder / f"{cell}.asked", what)

    def all_asked(self, unwritten: Mapping[str, Ask] | None = None) -> Ask | None:
        """What the whole task may be told, because each of its cells was asked or has ended; None: some go on.

        Args:
            unwritten: what cells were asked that could not be noted here.
        """
        also = unwritten or {}
        words = {also.get(cell) or self.asked(cell) for cell in self.cells if self.exit_code(cell) is None}
        return None if None in words else "leave" if "leave" in words else "kill"

    def _file(self, cell: str) -> Path:
        return self.results / "runs" / cell / FILE


def read_submission(run_dir: Path) -> Submission | None:
    """The submission a run folder tells of; None without one, or when the file is none of ours."""
    try:
        data = json.loads((run_dir / FILE).read_text(encoding="utf-8"))
        name, job, cells = str(data["folder"]), str(data["job"]), [str(cell) for cell in data["cells"]]
        submitted = float(data["submitted"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # They become paths and arguments of commands.
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", word) for word in (name, *cells))
    if not plain or not re.fullmatch(r"[0-9]+(_[0-9]+)?", job) or run_dir.name not in cells:
        return None
    return Submission(run_dir.parents[1], name, job, tuple(cells), submitted)


def new_folder(results: Path, suite: str) -> Path:
    """A fresh folder for one submission: <results>/slurm/<suite>-<time>-<n>."""
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", suite)[:60] or "run"
    stem += time.strftime("-%Y%m%d-%H%M%S")
    number = 1
    while True:
        folder = results / "slurm" / f"{stem}-{number}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def submissions(results: Path, cells: Sequence[str]) -> dict[str, Submission]:
    """By cell id, of those that were submitted and whose end nobody has noted."""
    found = {cell: read_submission(results / "runs" / cell) for cell in cells}
    return {cell: item for cell, item in found.items() if item is not None and item.exit_code(cell) is None}


def _write(path: Path, word: str) -> None:
    files.replace(path, word.encode("ascii"))  # a scheduler and `cancel` may write one at the same time
