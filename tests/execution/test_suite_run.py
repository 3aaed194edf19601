"""What a run leaves to others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbench.cells import Cell
from lossbench.execution import suite_run
from lossbench.execution.base import Job, Outcome
from lossbench.execution.submission import Submission, new_folder
from lossbench.execution.suite_run import RunOptions, run_cells
from tests.factories import make_cell


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    """The first is queued on Slurm, the second ran there, the third was never there."""
    made = [make_cell(seed=seed) for seed in range(3)]
    for number, cell in enumerate(made[:2]):
        (tmp_path / "runs" / cell.id).mkdir(parents=True)
        Submission(tmp_path, new_folder(tmp_path, "suite").name, f"{number + 1}", (cell.id,)).write()
    return made


@pytest.mark.parametrize(
    ("known", "held", "words"),
    [
        ({"1": "PENDING", "2": "GONE"}, [0], "1 cells are with Slurm and left out"),
        (None, [0, 1], "which does not answer here, and left out"),
        ({"1": "GONE", "2": "FAILED"}, [], None),
    ],
)
@pytest.mark.parametrize("executor", ["local", "ray", "slurm"])
def test_what_is_queued_on_slurm_is_left_out_elsewhere(
    cells: list[Cell],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    known: dict[str, str] | None,
    held: list[int],
    words: str | None,
) -> None:
    prepared: list[Cell] = []
    said: list[str] = []
    finished: list[Outcome] = []

    def prepare(cells: list[Cell], *rest: Any) -> tuple[None, list[Job], list[Outcome]]:
        prepared.extend(cells)
        return None, [], []

    class Watch:
        def finished(self, outcome: Outcome) -> None:
            finished.append(outcome)

    @contextlib.contextmanager
    def observe(jobs: list[Job]) -> Iterator[Any]:
        yield Watch()

    monkeypatch.setattr(suite_run, "_prepare", prepare)
    monkeypatch.setattr(suite_run, "states", lambda jobs: None if known is None else {job: known[job] for job in jobs})
    options = RunOptions(results=tmp_path, data_root=tmp_path, cache_root=tmp_path, executor=executor)
    outcomes = run_cells(cells, {}, options, observe=observe, say=said.append)  # type: ignore[arg-type]
    if executor == "slurm":  # joins them itself
        held, words = [], None
    assert outcomes == finished
    assert [(outcome.job.cell.id, outcome.status) for outcome in outcomes] == [
        (cells[number].id, "interrupted") for number in held
    ]
    assert prepared == [cell for number, cell in enumerate(cells) if number not in held]
    assert len(said) == (words is not None)
    assert words is None or words in said[0]
