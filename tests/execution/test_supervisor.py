"""The process between a worker and a cluster's agent, with workers that are a few lines each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

#: Says its process id and that of a child, and leaves 7 when it is asked to.
POLITE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(7))
child = subprocess.Popen(["sleep", "60"])
print("pids", os.getpid(), child.pid, flush=True)
time.sleep(60)
"""
DEAF = POLITE.replace("lambda *_: sys.exit(7)", "signal.SIG_IGN")


def wait_for(condition: Callable[[], object]) -> object:
    deadline = time.monotonic() + 120
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    def start(script: str, patience: float | None = None) -> subprocess.Popen[bytes]:
        code = "import sys; from lossbench.execution import supervisor as s; s.main(*sys.argv[1:])"
        if patience is not None:
            code = code.replace("; s.main", f"; s.ORPHAN_GRACE_S = {patience}; s.main")
        return subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "log.txt"), sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    return start


def tell(process: subprocess.Popen[bytes], word: bytes) -> None:
    assert process.stdin is not None
    os.write(process.stdin.fileno(), word)


def said(process: subprocess.Popen[bytes]) -> int:
    """The worker's exit code. Stdin stays open."""
    assert process.stdout is not None
    return int(process.stdout.read())


def pids(folder: Path) -> list[int]:
    log = folder / "log.txt"
    text = wait_for(lambda: log.exists() and log.read_text().endswith("\n") and log.read_text())
    return [int(word) for word in str(text).split()[1:]]


@pytest.mark.parametrize(
    ("script", "code"), [("raise SystemExit(75)", 75), ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV)]
)
def test_the_exit_code_comes_back(start: Callable[..., subprocess.Popen[bytes]], script: str, code: int) -> None:
    assert said(start(script)) == code


def test_what_a_worker_says_before_it_has_a_log_is_in_the_log(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert said(start("import nothing_of_that_name")) == 1
    assert "No module named 'nothing_of_that_name'" in (tmp_path / "log.txt").read_text()


def test_told_to_stop_it_asks_and_ends_what_is_left_behind(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = start(POLITE)
    worker, child = pids(tmp_path)
    tell(process, b"s")
    assert said(process) == 7
    wait_for(lambda: not alive(worker) and not alive(child))


def test_told_to_kill_it_kills_all(start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    process = start(DEAF)
    worker, child = pids(tmp_path)
    tell(process, b"s")
    time.sleep(0.3)
    assert alive(worker)
    tell(process, b"k")
    assert said(process) == -signal.SIGKILL
    wait_for(lambda: not alive(worker) and not alive(child))


@pytest.mark.parametrize("script", [POLITE, DEAF])
def test_when_its_master_is_gone_the_worker_leaves_or_is_killed(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, script: str
) -> None:
    """And it does not mind that its own parent, which Ray kills, has gone before."""
    process = start(script, patience=0.5)
    worker, child = pids(tmp_path)
    assert process.wait(120) == 0
    assert alive(worker)
    process.communicate()
    wait_for(lambda: not alive(worker) and not alive(child))
