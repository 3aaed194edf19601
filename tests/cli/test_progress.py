import io
from pathlib import Path

from rich.console import Console

from lossbench.cli.progress import LiveProgress, PlainProgress, Tally
from lossbench.execution.base import Job, Outcome
from lossbench.execution.spec import Spec
from lossbench.store import Store
from tests.factories import make_cell


def make_job(root: Path, loss: str = "ce", seed: int = 0, dataset: str = "streets") -> Job:
    cell = make_cell(loss=loss, seed=seed, dataset=dataset, protocol={"iterations": 100})
    return Job(cell, Spec(cell.to_json(), cell.id, root, root, root))


def console(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True)


def test_cells_are_told_apart_at_80_columns(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, loss) for loss in ("lovasz_softmax", "ce")]
    assert LiveProgress(console(), jobs, Store(tmp_path))._name(jobs[0]) == "lovasz_softmax/seed0"
    jobs = [make_job(tmp_path, dataset=name) for name in ("a_dataset_with_a_very_long_name", "b")]
    names = [LiveProgress(console(), jobs, Store(tmp_path))._name(job) for job in jobs]
    assert names[0].endswith("ce/seed0")
    assert names[0] != names[1]
    assert len(names[0]) <= 34


def test_a_cell_that_is_started_again_keeps_one_bar(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    live = LiveProgress(console(), [job], Store(tmp_path))
    live.started(job)
    live.progressed(job, {"event": "step", "step": 30, "iterations": 100, "loss": 1.0, "miou": 0.2})
    live.started(job)
    assert len(live._bars.tasks) == 2  # the suite's and the cell's


def test_plain_lines_one_per_finished_cell(tmp_path: Path) -> None:
    out = Console(file=io.StringIO(), width=80)
    jobs = [make_job(tmp_path), make_job(tmp_path, "focal")]
    plain = PlainProgress(out, jobs, Store(tmp_path))
    plain.finished(Outcome(jobs[0], "failed", 3.0, {"message": "boom"}))
    plain.finished(Outcome(jobs[1], "interrupted"))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    assert text == "[1/2] failed  streets/fcn_timm/ce/seed0  3 s  - boom\n"


def test_steps_of_an_earlier_attempt_do_not_count_as_speed(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    tally = Tally([job])
    tally.started -= 10
    tally.at(job, 50)
    assert tally.eta() == ""
    tally.at(job, 75)
    assert tally.fraction == 0.75
    assert tally.eta() == "10 s left"
