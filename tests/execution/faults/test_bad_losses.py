"""Losses that do everything a loss can do wrong, side by side in one run with one that is well behaved."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.stubs import Silent
from lossbench.execution.base import Job, Outcome, Request
from lossbench.execution.capacity import Capacity
from lossbench.execution.guard import LOG_BYTES
from lossbench.execution.limits import OOM_SCORE
from lossbench.execution.local import LocalExecutor
from lossbench.execution.scheduler import Scheduler
from lossbench.execution.spec import Spec
from lossbench.store import Store
from tests.execution.cellfactory import make_cell
from tests.execution.faults.workers import SHORT, harmful_cell, log_of

CGROUP = Path("/sys/fs/cgroup/memory")
BODIES = {
    "hangs_in_python": "while call == 2: pass",
    "hangs_in_c": "if call == 2: ctypes.PyDLL(None).sleep(600)",  # PyDLL keeps the interpreter's lock
    "leaks": "self.kept = [*getattr(self, 'kept', []), torch.empty(150_000_000)]",
    "segfaults": "ctypes.string_at(0)",
    "prints": "if not call: print('adj', Path('/proc/self/oom_score_adj').read_text(), flush=True)\n"
    "for number in range(100): print(f'call {call} ' + 'x' * 100_000)",
    "forks": "child = subprocess.Popen(['sleep', '600']).pid\n"
    "fork = os.fork()\n"
    "if not fork: time.sleep(600)\n"
    "print('children', child, fork, flush=True)",
    "killed_by_kernel": "Path('CGROUP/cgroup.procs').write_text(str(os.getpid()))\n"
    "self.kept = [*getattr(self, 'kept', []), torch.ones(40_000_000)]",
}
REQUESTS = {
    "leaks": Request(memory_gb=1.0),
    "ce": Request(memory_gb=1.0),
}


@contextmanager
def memory_cgroup() -> Iterator[Path | None]:
    """A control group with 300 MB, where there can be one: the kernel ends what takes more."""
    group = CGROUP / f"lossbench_test_{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(300 << 20))
    except OSError:
        yield None
        return
    yield group
    group.rmdir()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Outcome, Spec, list[str]]]:
    """(outcome, spec, what was said) of each loss."""
    folder = tmp_path_factory.mktemp("losses")

    class Watch(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def progressed(self, job: Job, event: dict[str, object]) -> None:
            if job.cell.loss.name.startswith("hangs") and event.get("event") == "checkpoint" and event["step"] == 2:
                job.request = Request(minutes=0.001)  # not before: nobody knows how long it takes to get there

        def said(self, message: str) -> None:
            self.messages.append(message)

    with memory_cgroup() as group:
        jobs = []
        for name, body in {"ce": "", **BODIES}.items():
            if name == "killed_by_kernel" and group is None:
                continue
            body = body.replace("CGROUP", str(group))
            cell, plugin = (make_cell(protocol=SHORT), None) if name == "ce" else harmful_cell(folder, name, body)
            request = REQUESTS.get(name, Request())
            plugins = () if plugin is None else (plugin,)
            spec = Spec(
                cell.to_json(),
                cell.id,
                folder / "results",
                folder,
                folder / "cache",
                plugins,
                memory_gb=request.memory_gb,
                checkpoint_every_s=0,
            )
            jobs.append(Job(cell, spec, request))
        watch = Watch()
        executor = LocalExecutor(Capacity(["cpu"], 2, cores=2))
        executor.warm_up()
        outcomes = Scheduler(executor, Store(folder / "results"), watch, grace_s=1.0).run(jobs)
    assert len(outcomes) == len(jobs)
    return {
        o.job.cell.loss.name: (o, o.job.spec, [m for m in watch.messages if o.job.cell.name in m]) for o in outcomes
    }


World = dict[str, tuple[Outcome, Spec, list[str]]]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["hangs_in_python", "hangs_in_c"])
def test_a_loss_that_hangs_is_ended_at_its_time_limit(world: World, name: str) -> None:
    outcome, spec, _ = world[name]
    assert outcome.error["kind"] == "Timeout"
    assert (spec.run_dir / "checkpoint.pt").is_file()


def test_a_loss_that_leaks_meets_its_memory_limit(world: World) -> None:
    outcome, _, messages = world["leaks"]
    assert outcome.error["kind"] == "OutOfMemory"
    assert any("micro-batches of 2" in message for message in messages)  # tried once more


def test_training_has_room_under_the_same_limit(world: World) -> None:
    assert world["ce"][0].status == "done"


def test_a_loss_that_segfaults_says_where(world: World) -> None:
    outcome, spec, messages = world["segfaults"]
    assert "SIGSEGV" in outcome.error["message"]
    assert not messages  # not tried again
    log = log_of(spec)
    assert "Segmentation fault" in log
    assert "segfaults.py" in log


def test_the_log_of_a_loss_that_prints_much_is_bounded(world: World) -> None:
    outcome, spec, _ = world["prints"]
    assert outcome.status == "done"
    log = (spec.run_dir / "log.txt").read_bytes()
    assert LOG_BYTES / 2 < len(log) <= LOG_BYTES
    assert b"bytes left out here]\ncall" not in log[:100]
    assert log.startswith(b"--- ")
    assert b"call 0 x" in log
    assert b"call 3 x" in log[-200_000:]
    assert log.count(b"bytes left out here]") == 1


def test_workers_are_what_the_kernel_kills_first(world: World) -> None:
    _, spec, _ = world["prints"]
    line = next(line for line in log_of(spec)[:10_000].splitlines() if line.startswith("adj"))
    assert int(line.split()[1]) == OOM_SCORE


def test_no_child_survives_its_cell(world: World) -> None:
    outcome, spec, _ = world["forks"]
    assert outcome.status == "done"
    pids = [int(pid) for line in log_of(spec).splitlines() if line.startswith("children") for pid in line.split()[1:]]
    assert len(pids) == 8
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_kill_by_the_kernel_is_out_of_memory(world: World) -> None:
    if "killed_by_kernel" not in world:
        pytest.skip("control groups (v1, memory) cannot be made here")
    outcome, _, messages = world["killed_by_kernel"]
    assert outcome.error["kind"] == "OutOfMemory"
    assert any("micro-batches of 2" in message for message in messages)
