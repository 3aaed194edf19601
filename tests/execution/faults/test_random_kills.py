"""Workers, schedulers and fork servers killed at random moments over a suite of 200 stub cells."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.stubs import write_suite
from lossbench.store import Store
from lossbench.suite import load_suite
from tests.execution.faults.journal import JOURNAL

CELLS, SLOTS = 200, 4
#: Seconds of faults at the most; then the suite is run to its end undisturbed.
CHAOS_S = 120.0
ROOT = Path(__file__).resolve().parents[3]


class Chaos:
    """Schedulers of one suite, and the hand that kills them and theirs."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.results = folder, folder / "results"
        self.seed, self.random = seed, random.Random(seed)
        self.suite = write_suite(folder / "suite.yaml", CELLS)
        self.schedulers: list[subprocess.Popen[bytes]] = []
        self.faults: Counter[str] = Counter()
        self.seen: dict[Path, tuple[int, int, str]] = {}

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.execution.faults.journal"]
        self.schedulers.append(
            subprocess.Popen(
                [*command, str(self.suite), str(self.results), str(SLOTS)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=(self.folder / "stderr.txt").open("ab"),
                start_new_session=True,
            )
        )

    def lines(self) -> int:
        """Of the journal: how far the suite is."""
        try:
            return (self.folder / JOURNAL).read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def revive(self) -> None:
        """Start the suite again when nobody runs it."""
        self.schedulers = [process for process in self.schedulers if process.poll() is None]
        if not self.schedulers:
            self.start()

    def one_fault(self) -> bool:
        """Do harm; False when there is nothing to do it to yet."""
        scheduler = self.random.choice(self.schedulers)
        servers = [pid for pid in children(scheduler.pid) if b"forkserver" in command_line(pid)]
        workers = [pid for server in servers for pid in children(server)]
        if not workers:
            return False
        fault = self.random.choices(
            ["kill worker", "stop worker", "kill server", "kill scheduler", "stop scheduler", "second scheduler"],
            [10, 5, 4, 1.5, 1.5, 1.5],
        )[0]
        if fault == "kill scheduler":
            scheduler.kill()
        elif fault == "stop scheduler":
            scheduler.terminate()
        elif fault == "second scheduler" and len(self.schedulers) < 2:
            self.start()
        elif fault == "kill server":
            send(self.random.choice(servers), signal.SIGKILL)
        elif fault.endswith("worker"):
            send(self.random.choice(workers), signal.SIGKILL if fault.startswith("kill") else signal.SIGTERM)
        else:
            return False
        self.faults[fault] += 1
        return True

    def look(self) -> None:
        """Remember each record as it was when first seen."""
        for path in self.results.glob("records/*/*/*.json"):
            if path not in self.seen:
                self.seen[path] = state(path)

    def end(self) -> None:
        for process in self.schedulers:
            process.wait(timeout=240)

    def kill_all(self) -> None:
        for process in self.schedulers:
            process.kill()
            process.wait()


def state(path: Path) -> tuple[int, int, str]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[1]) == parent:
                found.append(int(folder.name))
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.fixture
def chaos(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Chaos]:
    made = Chaos(tmp_path, int(os.environ.get("LOSSBENCH_CHAOS_SEED", request.param)))
    yield made
    made.kill_all()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers through /proc")
@pytest.mark.parametrize("chaos", [1], indirect=True)
def test_exactly_200_records_whatever_is_killed(chaos: Chaos) -> None:
    chaos.start()
    chaos.start()  # two from the first cell on
    deadline = time.monotonic() + CHAOS_S
    due = 0
    while time.monotonic() < deadline and len(chaos.seen) < CELLS:
        time.sleep(chaos.random.uniform(0.01, 0.1))
        chaos.revive()
        if chaos.lines() >= due and chaos.one_fault():  # at the pace of the suite, however slow the machine is
            due = chaos.lines() + chaos.random.randint(3, 15)
        chaos.look()
    chaos.end()
    for _ in range(4):  # a cell whose worker was killed twice has failed: run again, as a user would
        chaos.look()
        if len(chaos.seen) == CELLS:
            break
        chaos.start()
        chaos.end()
    print(f"seed {chaos.seed}:", dict(chaos.faults), (chaos.folder / "stderr.txt").read_text()[-2000:])
    cells = load_suite(chaos.suite).cells()
    store = Store(chaos.results)
    assert sorted(chaos.seen) == sorted(store.record_path(cell) for cell in cells)
    records, warnings = store.read_all()
    assert warnings == []
    assert {stored.record.id for stored in records} == {cell.id for cell in cells}
    assert all(stored.per_image is not None for stored in records)
    assert {path: state(path) for path in chaos.seen} == chaos.seen  # nothing finished was touched again

    stored, begun_after = Counter[str](), []
    for line in (chaos.folder / JOURNAL).read_text().splitlines():
        what, cell, _ = line.split()
        assert what != "overlap", f"two workers at once on {cell}"
        if what == "begin" and stored[cell]:
            begun_after.append(cell)
        stored[cell] += what == "stored"
    assert begun_after == []
    assert max(stored.values()) == 1
    assert sum(chaos.faults.values()) >= 10  # some 40 when the machine has time
