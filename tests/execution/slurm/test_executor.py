"""What the executor makes of a Slurm that says what a test has it say. Needs submitit, but no cluster."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("submitit")
import submitit

from lossbench.execution import slurm, slurm_queue
from lossbench.execution.base import NotNow, Request
from lossbench.execution.slurm import PATIENCE_VARIABLE, SlurmExecutor, SlurmHandle
from lossbench.execution.spec import EXIT_DONE, Spec
from lossbench.execution.submission import Submission, new_folder
from tests.factories import make_cell


class Queue:
    """In place of squeue, scancel and sbatch."""

    def __init__(self) -> None:
        self.state = "RUNNING"
        self.looks = 0
        self.told: list[str] = []
        self.refusal = "Unable to contact slurm controller (connect failure)"

    def states(self, jobs: Iterable[str]) -> dict[str, str]:
        self.looks += 1
        return dict.fromkeys(jobs, self.state)

    def run(self, *command: str) -> None:
        self.told.append(" ".join(command))

    def submit_array(self, calls: object) -> None:
        raise RuntimeError(f"sbatch: error: Batch job submission failed: {self.refusal}")


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(slurm_queue, "states", made.states)
    monkeypatch.setattr(slurm_queue, "_run", made.run)
    monkeypatch.setattr(submitit.SlurmExecutor, "submit_array", made.submit_array)
    monkeypatch.setattr(submitit.SlurmExecutor, "__init__", lambda self, *args, **options: None)
    monkeypatch.setattr(submitit.SlurmExecutor, "update_parameters", lambda self, **parameters: None)
    return made


def submitted(root: Path, seed: int = 0) -> tuple[Spec, Submission]:
    """A cell that an earlier scheduler has submitted."""
    cell = make_cell(seed=seed)
    spec = Spec(cell.to_json(), cell.id, results=root, data_root=root, cache_root=root)
    spec.write()
    submission = Submission(root, new_folder(root, "suite").name, f"7_{seed}", (cell.id,))
    submission.write()
    return spec, submission


def adopted(executor: SlurmExecutor, spec: Spec) -> SlurmHandle:
    handle = executor.adopt(spec, Request())
    assert isinstance(handle, SlurmHandle)
    return handle


def test_joining_many_jobs_is_one_call(tmp_path: Path, queue: Queue) -> None:
    specs = [submitted(tmp_path, seed)[0] for seed in range(20)]
    executor = SlurmExecutor(tmp_path)
    assert all(adopted(executor, spec).running() for spec in specs)
    assert queue.looks == 1


def test_on_a_full_disk_slurm_is_told_all_the_same(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, submission = submitted(tmp_path)
    executor = SlurmExecutor(tmp_path)
    handle = adopted(executor, spec)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("lossbench.files.replace", full)
    handle.stop()
    executor.wait(0)
    handle.kill()
    executor.wait(0)
    assert queue.told == ["scancel --quiet --signal=USR2 7_0", "scancel --quiet 7_0"]
    assert submission.asked(spec.cell_id) is None


def test_the_folder_of_a_job_that_is_over_is_looked_at_anew_before_it_counts_as_lost(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where this machine goes on to see no file until it has changed the folder itself."""
    spec, submission = submitted(tmp_path)
    executor = SlurmExecutor(tmp_path)
    handle = adopted(executor, spec)
    changed: list[Path] = []
    seen = Submission.exit_code
    refresh = slurm._refresh
    monkeypatch.setattr(Submission, "exit_code", lambda self, cell: seen(self, cell) if changed else None)
    before = submission.folder.stat().st_mtime_ns

    def watched(folder: Path) -> None:
        refresh(folder)
        if folder.stat().st_mtime_ns != before:
            changed.append(folder)

    monkeypatch.setattr(slurm, "_refresh", watched)
    queue.state = "COMPLETED"
    (submission.folder / f"{spec.cell_id}.exit").write_text(str(EXIT_DONE))
    before = submission.folder.stat().st_mtime_ns
    for _ in range(slurm._MISSES):
        executor.wait(0.01)
    assert handle.poll() == EXIT_DONE
    assert [file.name for file in submission.folder.iterdir()] == [f"{spec.cell_id}.exit"]
    refresh(tmp_path / "no" / "such")  # nor does a folder that is gone end anything


def refused(executor: SlurmExecutor, root: Path) -> Exception:
    cell = make_cell()
    spec = Spec(cell.to_json(), cell.id, results=root, data_root=root, cache_root=root)
    (answer,) = executor.submit([(spec.write(), Request())])
    assert isinstance(answer, Exception)
    return answer


def test_a_slurm_that_does_not_answer_is_tried_again_ever_later_and_not_for_ever(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE_VARIABLE, "100")
    executor = SlurmExecutor(tmp_path)
    now = 1000.0
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now)
    waits = []
    while isinstance(answer := refused(executor, tmp_path), NotNow):
        waits.append(answer.retry_after_s)
        now += answer.retry_after_s
    assert waits == [1, 2, 4, 8, 16, 32, 60]
    assert "Unable to contact slurm controller" in str(answer)


def test_a_plain_refusal_is_not_tried_again(tmp_path: Path, queue: Queue) -> None:
    queue.refusal = "Invalid partition name specified"
    answer = refused(SlurmExecutor(tmp_path), tmp_path)
    assert not isinstance(answer, NotNow)
    assert str(answer) == "Batch job submission failed: Invalid partition name specified"
