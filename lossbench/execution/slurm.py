"""Slurm executor: cells as tasks of job arrays, through submitit.

Without accounting Slurm tells nothing of jobs that have ended, so nothing rests on it: a cell is done when its record
is in the store, its worker's exit code lies in the submission's folder, and squeue only says who waits and who runs.
Workers outlive their scheduler; the next one finds them by what their run folders say, and submits none twice.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossbench import files
from lossbench.errors import ConfigError, SetupError
from lossbench.execution import slurm_queue
from lossbench.execution.base import Handle, NotNow, Place, Request, cluster_place
from lossbench.execution.slurm_request import packed, parameters
from lossbench.execution.spec import EXIT_CANCELLED, EXIT_LOST, EXIT_OUT_OF_MEMORY, Spec
from lossbench.execution.submission import FILE, Ask, Submission, new_folder, read_submission

#: Seconds between calls of squeue, if this variable does not say otherwise.
POLL_VARIABLE = "LOSSBENCH_SLURM_POLL_S"
_POLL_S = 5.0
#: Seconds for which jobs are offered again to a Slurm that cannot take any, if this variable does not say otherwise.
PATIENCE_VARIABLE = "LOSSBENCH_SLURM_PATIENCE_S"
_PATIENCE_S = 600.0
#: In sbatch's words, what is no fault of the request: its controller is away or busy, or too many jobs wait by now.
_NOT_NOW = (
    "unable to contact",
    "timed out",
    "temporarily",
    "connection refused",
    "not connected",
    "zero bytes",
    "standby",
    "submitjob",
)
#: Tasks of an array at the most: Slurm's MaxArraySize is 1001 if not set.
_MOST_TASKS = 1000
#: Looks that have to miss a job before it counts as lost: what its node wrote may take a moment to be seen. See also
#: `_refresh`.
_MISSES = 2
_LOG_LINES = 20


@dataclass(eq=False)
class _Task:
    """An array task and what was last heard of it."""

    submission: Submission
    state: str = "PENDING"
    misses: int = 0


class SlurmHandle:
    """A cell of a task."""

    def __init__(self, executor: SlurmExecutor, task: _Task, cell: str) -> None:
        self._executor, self._task, self._cell = executor, task, cell

    def running(self) -> bool:
        return self._task.state in slurm_queue.RUNNING

    def poll(self) -> int | None:
        """What its worker left, else what its job's state says."""
        submission, state = self._task.submission, self._task.state
        code = submission.exit_code(self._cell)
        if code is None:
            asked = submission.asked(self._cell) is not None
            if slurm_queue.alive(state):
                # A task that still waits will not start a cell that was asked to leave.
                return EXIT_CANCELLED if asked and state == "PENDING" else None
            if self._task.misses < _MISSES:
                return None
            code = EXIT_CANCELLED if asked else _CODES.get(state, EXIT_LOST)
            submission.forget(self._cell)
            if code == EXIT_LOST:
                _keep_log(submission, self._cell)
        return code

    def stop(self) -> None:
        self._executor.ask(self._task, self._cell, "leave")

    def terminate(self) -> None:
        self.kill()

    def kill(self) -> None:
        self._executor.ask(self._task, self._cell, "kill")


#: What a job's end means where its task left no word.
_CODES = {"OUT_OF_MEMORY": EXIT_OUT_OF_MEMORY, "CANCELLED": EXIT_CANCELLED}


class SlurmExecutor:
    """Submits workers to the Slurm cluster that this machine belongs to.

    Args:
        results: the results folder; jobs leave their logs in `slurm/` there. All nodes must see it.
        suite: its name, for folders and jobs.
        jobs: tasks of an array at a time; None: as many as Slurm allows.
        worker: the module that runs a spec; another one is for tests.

    Raises SetupError where there is no Slurm, or no submitit.
    """

    def __init__(
        self,
        results: Path,
        suite: str = "",
        *,
        jobs: int | None = None,
        worker: str = "lossbench.execution.worker",
    ) -> None:
        if shutil.which("sbatch") is None or shutil.which("srun") is None:
            raise SetupError(
                "there is no Slurm here: sbatch and srun are not on the PATH",
                hint="run it on a login node of a cluster",
            )
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise SetupError(
                "--executor slurm needs the package submitit", hint='pip install "lossbench[slurm]"'
            ) from None
        self.poll_s = _seconds(POLL_VARIABLE, _POLL_S)
        self._patience_s = _seconds(PATIENCE_VARIABLE, _PATIENCE_S)
        self._results, self._suite, self._jobs, self._worker = results, suite or "lossbench", jobs, worker
        self._tasks: dict[str, _Task] = {}
        self._asked: set[_Task] = set()
        self._unwritten: dict[str, Ask] = {}
        self._others: dict[str, str] = {}
        self._others_at = -math.inf
        self._refused_since: float | None = None

    def refuses(self, request: Request) -> None:
        """Never: what a cluster has, its controller knows."""

    def reserve(self, request: Request) -> Place:
        """Always: the queue is Slurm's."""
        return cluster_place(request)

    def release(self, place: Place) -> None:
        """Nothing was taken."""

    def submit(self, specs: Sequence[tuple[Path, Request]]) -> list[Handle | Exception]:
        """An array for each resource request; cells that another scheduler has submitted meanwhile are joined."""
        handles: dict[Path, Handle | Exception] = {}
        groups: dict[Request, list[Path]] = {}
        for path, request in specs:
            handle = self._adopt(path.parent)
            if handle is None:
                groups.setdefault(request, []).append(path)
            else:
                handles[path] = handle
        for request, paths in groups.items():
            pack = packed(request)
            for chunk in _chunks(paths, pack * _MOST_TASKS):
                handles.update(self._submit_array(list(_chunks(chunk, pack)), request))
        return [handles[path] for path, _ in specs]

    def _submit_array(self, tasks: Sequence[Sequence[Path]], request: Request) -> dict[Path, Handle | Exception]:
        import submitit

        from lossbench.execution.slurm_task import SlurmTask

        try:
            folder = new_folder(self._results, self._suite)
            executor = submitit.SlurmExecutor(folder, max_num_timeout=1_000_000)
            executor.update_parameters(**parameters(request, f"lossbench-{self._suite}", len(tasks), self._jobs))
            calls = [
                SlurmTask(str(folder), [str(path) for path in paths], request.minutes, self._worker) for paths in tasks
            ]
            jobs = executor.submit_array(calls)
        except Exception as error:  # submitit's, sbatch's or the file system's: these cells are not started
            refusal = self._later(_refusal(error))
            return {path: refusal for paths in tasks for path in paths}
        self._refused_since = None
        handles: dict[Path, Handle | Exception] = {}
        for job, paths in zip(jobs, tasks, strict=True):
            cells = tuple(path.parent.name for path in paths)
            task = self._task(Submission(self._results, folder.name, str(job.job_id), cells, time.time()))
            with contextlib.suppress(OSError):  # a full disk: the task writes it itself when it starts
                task.submission.write()
            handles.update((path, SlurmHandle(self, task, path.parent.name)) for path in paths)
        return handles

    def _later(self, refusal: Exception) -> Exception:
        """The refusal, to be tried again when the request is not what was wrong, until that has lasted too long."""
        if not any(word in str(refusal).lower() for word in _NOT_NOW):
            return refusal
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        lasted = now - self._refused_since
        return refusal if lasted > self._patience_s else NotNow(str(refusal), retry_after_s=min(1 + lasted, 60.0))

    def adopt(self, spec: Spec, request: Request) -> Handle | None:
        """The worker that the cell's run folder tells of, unless Slurm knows that it is gone."""
        return self._adopt(spec.run_dir)

    def _adopt(self, run_dir: Path) -> SlurmHandle | None:
        submission = read_submission(run_dir)
        if submission is None:
            return None
        cell = run_dir.name
        if submission.exit_code(cell) is None and submission.asked(cell) is None:
            known = submission.job in self._tasks
            task = self._task(submission)
            if not known:
                self._join(task)
            if slurm_queue.alive(task.state):
                return SlurmHandle(self, task, cell)
        submission.forget(cell)
        return None

    def _join(self, task: _Task) -> None:
        """Learn the state of a job that another scheduler submitted. All that may be joined are asked for at once: one
        answer does for a suite of thousands."""
        job = task.submission.job
        if job not in self._others or time.monotonic() - self._others_at > self.poll_s:
            found = (read_submission(file.parent) for file in (self._results / "runs").glob(f"*/{FILE}"))
            jobs = {job, *(submission.job for submission in found if submission is not None)}
            self._others = dict.fromkeys(jobs, task.state) | (slurm_queue.states(jobs) or {})
            self._others_at = time.monotonic()
        task.state = self._others[job]

    def _task(self, submission: Submission) -> _Task:
        return self._tasks.setdefault(submission.job, _Task(submission))

    def ask(self, task: _Task, cell: str, what: Ask) -> None:
        """Note what a cell is asked; the next `wait` tells Slurm of all of them together."""
        if task.submission.asked(cell) == what:
            return
        self._unwritten.pop(cell, None)
        try:
            task.submission.ask(cell, what)
        except OSError:  # a full or read-only disk: Slurm can be told all the same
            self._unwritten[cell] = what
        self._asked.add(task)

    def wait(self, seconds: float) -> None:
        self._pass_on()
        time.sleep(seconds)
        self._look()

    def close(self) -> None:
        """Pass on what is left to say. What was not asked to leave goes on."""
        self._pass_on()

    def _pass_on(self) -> None:
        asked, self._asked = self._asked, set()
        if asked:
            known = {task.submission.job: task.state for task in asked}
            slurm_queue.pass_on([task.submission for task in asked], known, self._unwritten)

    def _look(self) -> None:
        """One call for all jobs that may still be alive. When Slurm does not answer, all is as it was."""
        followed = {job: task for job, task in self._tasks.items() if task.misses < _MISSES}
        told = slurm_queue.states(followed)
        over = {followed[job].submission.folder for job, state in (told or {}).items() if not slurm_queue.alive(state)}
        for folder in over:
            _refresh(folder)
        for job, state in (told or {}).items():
            task = followed[job]
            task.state, task.misses = state, 0 if slurm_queue.alive(state) else task.misses + 1


# --- parts ---


def _chunks(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    return (paths[start : start + size] for start in range(0, len(paths), size))


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{variable} is '{text}', which is no number of seconds", hint=f"e.g. {default:g}")
    return seconds


def _refusal(error: Exception) -> Exception:
    """sbatch's own words, without the command line that submitit puts around them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line.partition("error: ")[2] for line in lines if line.startswith("sbatch: error: ")]
    return SetupError("; ".join(said or lines[-1:]) or type(error).__name__)


def _keep_log(submission: Submission, cell: str) -> None:
    """The end of what a task that died wrote, into the log of its cell: there a user looks first."""
    logs = [submission.folder / f"{submission.job}_0_log.{end}" for end in ("out", "err")]
    try:
        lines = [line for file in logs if file.is_file() for line in _tail(file)]
        with (submission.results / "runs" / cell / "log.txt").open("a", encoding="utf-8") as log:
            print(
                f"--- Slurm job {submission.job} is gone; the last of {submission.folder}:", *lines, sep="\n", file=log
            )
    except OSError:
        return


def _refresh(folder: Path) -> None:
    """Make this machine look into a folder anew. NFS may go on for a minute to say that a file is not there, but not in
    a folder that it has changed itself."""
    own = files.temporary_name(folder / "look")
    with contextlib.suppress(OSError):
        own.touch()
        own.unlink()


def _tail(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
