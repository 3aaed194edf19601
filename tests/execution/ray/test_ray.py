"""Real cells on a real cluster of two nodes: they share it, one node goes away, the user stops them, some die."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lossbench.errors import SetupError
from lossbench.execution.base import Job, Outcome, Request
from lossbench.execution.cellrun import CellRun
from lossbench.execution.events import EventReader
from lossbench.execution.scheduler import Scheduler, read_error
from lossbench.execution.spec import EXIT_FAILED
from lossbench.store import Store
from tests.execution.cellfactory import make_cell, make_spec
from tests.execution.ray.conftest import TwoNodes, bounded
from tests.execution.test_supervisor import alive, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.slow]

#: Cross entropy that waits, from its fourth step on, until a file is there or its worker is asked to leave.
GATED = """
import pathlib, signal, time, torch
from lossbench.registry import register_loss

@register_loss("gated")
class Gated(torch.nn.Module):
    '''Cross entropy behind a gate.'''
    def __init__(self, *, gate: str = "", body: str = "", ignore_index: int = 255):
        super().__init__()
        self.gate, self.body, self.calls = pathlib.Path(gate), body, 0
    def forward(self, logits, target):
        self.calls += 1
        asked = getattr(signal.getsignal(signal.SIGUSR2), "__self__", bool)  # the worker's StopFlag
        while self.calls > 3 and not self.gate.exists() and not asked():
            time.sleep(0.02)
        exec(self.body)
        return torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=255)
"""


class Watch:
    """Calls `act` once, when `condition` holds of the number of checkpoints per cell, and `hear` with every message."""

    def __init__(
        self,
        condition: Callable[[Counter[str]], bool] = lambda seen: False,
        act: Callable[[], Any] = int,
        hear: Callable[[str], Any] = str,
    ) -> None:
        self._condition, self._act, self._hear, self._acted = condition, act, hear, False
        self.checkpoints: Counter[str] = Counter()
        self.messages: list[str] = []

    def started(self, job: Job) -> None: ...

    def progressed(self, job: Job, event: dict[str, Any]) -> None:
        self.checkpoints[job.cell.id] += event["event"] == "checkpoint"
        if not self._acted and self._condition(self.checkpoints):
            self._acted = True
            self._act()

    def finished(self, outcome: Outcome) -> None: ...

    def said(self, message: str) -> None:
        self.messages.append(message)
        self._hear(message)


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """An executor; its scheduler leaves the cluster."""
    from lossbench.execution.ray import RayExecutor

    executor = RayExecutor(address=address)
    try:
        yield executor
    finally:
        executor.close()


class Bench:
    """A folder with a plugin, a gate and results."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache, self.gate = root, cache, root / "gate"
        self.plugin = root / "gated.py"
        self.plugin.write_text(GATED)

    def job(self, results: str = "results", *, seed: int = 0, body: str = "", **request: Any) -> Job:
        cell = make_cell("gated", seed, (self.plugin,), gate=str(self.gate), body=body)
        spec = make_spec(cell, self.root / results, self.cache, plugins=(self.plugin,), checkpoint_every_s=0.0)
        return Job(cell, spec, Request(**request))

    def records(self) -> list[Any]:
        return [stored.record for stored in Store(self.root / "results").read_all()[0]]

    def workers(self) -> list[int]:
        """Process ids of all that said so in a log."""
        logs = [path.read_text(errors="replace") for path in self.root.glob("*/runs/*/log.txt")]
        return [int(pid) for log in logs for pid in re.findall(r"^--- .* pid ([0-9]+)$", log, re.MULTILINE)]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path.rstrip(os.pathsep))  # the executor hands it to the workers
    bench = Bench(tmp_path, tmp_path / "cache")
    try:
        with bounded("the test"):
            yield bench
    finally:
        bench.gate.touch()
        for worker in filter(alive, bench.workers()):  # there are none, unless the test has failed
            os.kill(worker, signal.SIGKILL)


def test_cells_of_a_lost_node_go_on_elsewhere_and_end_in_the_same_weights(nodes: TwoNodes, bench: Bench) -> None:
    nodes.second()
    jobs = [bench.job(seed=seed, gpus=0.5) for seed in range(3)]  # two share a GPU, one is on the other node

    def hear(message: str) -> None:
        bench.gate.touch()  # not before Ray has told: else the lost cell may come to its end

    watch = Watch(lambda seen: len(seen) == 3 and min(seen.values()) >= 3, nodes.lose, hear)
    with connected(nodes.address) as executor:
        outcomes = Scheduler(executor, Store(bench.root / "results"), watch).run(jobs)
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert ["starting it again" in message for message in watch.messages] == [True]
    records = bench.records()
    assert Counter(record.seed for record in records) == Counter(range(3))
    assert sorted(bool(record.notes) and "resumed" in record.notes[-1] for record in records) == [False, False, True]
    for record in records:
        whole = CellRun(bench.job("whole", seed=record.seed).spec).run()
        assert whole is not None
        assert record.provenance["weights_sha256"] == whole[0].provenance["weights_sha256"]
        assert (record.confusion == whole[0].confusion).all()


def test_ctrl_c_leaves_checkpoints_and_no_process(nodes: TwoNodes, bench: Bench) -> None:
    jobs = [bench.job(seed=seed, gpus=1) for seed in range(3)]  # more than there is room for

    watch = Watch(lambda seen: max(seen.values()) >= 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with connected(nodes.address) as executor:
        outcomes = Scheduler(executor, Store(bench.root / "results"), watch).run(jobs)
    assert [outcome.status for outcome in outcomes] == ["interrupted"] * 3
    begun = [job for job in jobs if (job.spec.run_dir / "checkpoint.pt").exists()]
    assert 1 <= len(begun) <= 2
    assert not any(map(alive, bench.workers()))
    assert bench.records() == []


def test_the_death_of_one_cell_touches_no_other(nodes: TwoNodes, bench: Bench) -> None:
    bench.gate.touch()
    bodies = {"segfault": "import ctypes; ctypes.string_at(0)", "memory": "raise MemoryError('9 PB')", "fine": ""}
    jobs = [bench.job(body=body, gpus=0.3) for body in bodies.values()]
    with connected(nodes.address) as executor:
        outcomes = Scheduler(executor, Store(bench.root / "results"), Watch()).run(jobs)
    ended = {outcome.job.cell.id: outcome for outcome in outcomes}
    segfault, memory, fine = (ended[job.cell.id] for job in jobs)
    assert "SIGSEGV" in segfault.error["message"]
    assert memory.error["kind"] == "OutOfMemory"
    assert memory.job.spec.split == 2
    assert fine.status == "done"


def test_when_the_scheduler_is_killed_its_workers_checkpoint_and_leave(nodes: TwoNodes, bench: Bench) -> None:
    job = bench.job()
    driver = """
import sys
from pathlib import Path
from lossbench.execution.base import Request
from lossbench.execution.ray import RayExecutor
executor = RayExecutor(address=sys.argv[1])
executor.submit([(Path(sys.argv[2]), Request())])
executor.wait(60)
"""
    command = [sys.executable, "-c", driver, nodes.address, str(job.spec.run_dir / "spec.json")]
    events = EventReader(job.spec.run_dir / "events.jsonl")
    steps: list[int] = []

    def at_the_gate() -> bool:
        assert process.poll() is None, "the scheduler has ended"
        steps.extend(event["step"] for event in events.new() if event["event"] == "checkpoint")
        return bool(steps) and steps[-1] == 3

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(at_the_gate)
        finally:
            process.kill()
        assert process.communicate()[1] == ""
    (worker,) = bench.workers()
    wait_for(lambda: not alive(worker))
    assert {event["step"] for event in events.new() if event["event"] == "checkpoint"} == {4}  # nobody killed it
    assert bench.records() == []


def test_a_folder_that_nodes_do_not_share_is_told(nodes: TwoNodes, bench: Bench) -> None:
    with connected(nodes.address) as executor:
        (bench.root / "elsewhere").mkdir()
        (handle,) = executor.submit([(bench.root / "elsewhere" / "spec.json", Request())])
        assert wait_for(handle.poll) == EXIT_FAILED
    said = read_error(bench.root / "elsewhere")
    assert said is not None
    assert "does not see" in said["message"]


def test_no_cluster_at_the_address_is_a_setup_error() -> None:
    from lossbench.execution.ray import RayExecutor

    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    for address in ("not-an-address", closed):
        with bounded("the refusal"), pytest.raises(SetupError, match=f"no Ray on {address}"):
            RayExecutor(address=address)
