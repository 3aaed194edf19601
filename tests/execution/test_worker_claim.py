"""worker.py where the run folder is shared: who holds a cell, and what a worker that lost it does."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbench.errors import ConfigError
from lossbench.execution import claim as claims
from lossbench.execution.claim import Claim
from lossbench.execution.spec import EXIT_BUSY, EXIT_DONE, EXIT_UNWRITABLE, Spec
from lossbench.execution.worker import run_spec
from lossbench.processes import Process
from lossbench.store import Store
from tests.factories import make_record

NODE = Process("node7", "its boot", 7, "1")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """As before: a worker sets its own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def train(
    monkeypatch: pytest.MonkeyPatch, folder: Path, during: Callable[[Callable[[], bool]], Any] = lambda stop: None
) -> int:
    """Run a worker whose training is a record made at once, after `during`."""
    cell, record, counts = make_record()

    class Trained:
        def __init__(self, spec: Spec, should_stop: Callable[[], bool]) -> None:
            self.should_stop = should_stop

        def run(self) -> Any:
            if during(self.should_stop) == "stopped":
                return None
            return record, counts, [f"image_{i}" for i in range(len(counts))]

        def keep(self) -> None: ...

    spec = Spec(cell.to_json(), cell.id, results=folder, data_root=folder, cache_root=folder)
    return run_spec(spec.write(), Trained)


def run_folder(folder: Path) -> Path:
    return Store(folder).run_dir(make_record()[0].id)


def test_a_cell_that_another_machine_holds_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Claim(run_folder(tmp_path), NODE):
        assert train(monkeypatch, tmp_path, lambda stop: pytest.fail("it trained")) == EXIT_BUSY
    assert train(monkeypatch, tmp_path) == EXIT_DONE
    assert claims.holder(run_folder(tmp_path)) is None


def taken_over(folder: Path) -> None:
    """Another machine takes the cell; it goes on to hold it."""
    for path in folder.glob("claim.*"):
        os.utime(path, (1, 1))
    (folder / "claim.9").write_text(json.dumps(NODE.__dict__))


@pytest.mark.parametrize("made", [True, False])
def test_who_lost_its_claim_overwrites_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool) -> None:
    """It slept for minutes; it comes to its end before it looks at its claim again."""
    cell, record, counts = make_record(notes=("made by the other",))
    folder = run_folder(tmp_path)

    def sleeps(stop: Callable[[], bool]) -> None:
        taken_over(folder)
        if made:
            Store(tmp_path).write(cell, record, counts, [f"image_{i}" for i in range(len(counts))])

    assert train(monkeypatch, tmp_path, sleeps) == EXIT_DONE
    kept = Store(tmp_path).load(cell)
    assert kept is not None
    assert kept.notes == (["made by the other"] if made else [])
    assert claims.holder(folder) == NODE


@pytest.mark.parametrize("ends", ["stopped", "raises"])
def test_who_lost_its_claim_stops_and_leaves_the_folder_to_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    folder = run_folder(tmp_path)

    def loses(stop: Callable[[], bool]) -> str:
        (folder / "checkpoint.pt").write_text("the other's")
        assert not stop()
        taken_over(folder)
        deadline = time.monotonic() + 20
        while not stop():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if ends == "raises":
            raise ConfigError("its files went away")
        return "stopped"

    assert train(monkeypatch, tmp_path, loses) == EXIT_BUSY
    assert (folder / "checkpoint.pt").is_file()
    assert not (folder / "error.json").exists()


def test_a_folder_that_cannot_be_claimed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(claims, "_own_file", full)
    assert train(monkeypatch, tmp_path) == EXIT_UNWRITABLE
