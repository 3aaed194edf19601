"""A cell on two devices, from spec to record, in processes as a scheduler starts them."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lossbench import metrics
from lossbench.cells import Cell
from lossbench.errors import ConfigError
from lossbench.execution import ranks
from lossbench.execution.base import Request
from lossbench.execution.capacity import Capacity
from lossbench.execution.cellrun import CellRun
from lossbench.execution.local import LocalExecutor, LocalHandle
from lossbench.execution.notes import resumption, sharing
from lossbench.execution.spec import EXIT_CHECKPOINTED, EXIT_DONE, EXIT_FAILED, EXIT_LOST, EXIT_OUT_OF_MEMORY, Spec
from lossbench.protocol import Protocol
from lossbench.records import Record
from tests.execution.cellfactory import make_cell, make_spec
from tests.execution.test_end_to_end import wait_for, write_plugin

TWO = ("cpu", "cpu")
#: Seconds until a test gives up; what it waits for takes a few, but the machine may be busy.
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def executor() -> Iterator[LocalExecutor]:
    made = LocalExecutor(Capacity(["cpu"], 2, cores=2))
    made.warm_up()
    yield made
    made.close()


#: Starts a worker of a spec; ended, with all it started, when the test is over.
Start = Callable[[Spec], LocalHandle]


@pytest.fixture
def start(executor: LocalExecutor) -> Iterator[Start]:
    started: list[LocalHandle] = []

    def start_worker(spec: Spec) -> LocalHandle:
        (handle,) = executor.submit([(spec.run_dir / "spec.json", Request())])
        assert isinstance(handle, LocalHandle)
        started.append(handle)
        return handle

    yield start_worker
    for handle in started:
        handle.kill()


def ended(handle: LocalHandle, seconds: float = PATIENCE_S) -> int:
    """Its exit code."""
    wait_for(lambda: handle.poll() is not None, seconds)
    code = handle.poll()
    assert code is not None
    return code


def log(spec: Spec) -> str:
    file = spec.run_dir / "log.txt"
    return file.read_text(errors="replace") if file.exists() else ""


def error(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((spec.run_dir / "error.json").read_text())
    return found


def records(root: Path) -> list[Record]:
    return [Record.from_json(path.read_bytes()) for path in (root / "records").rglob("*.json")]


def alone(cell: Cell, root: Path, cache: Path, **fields: Any) -> Record:
    outcome = CellRun(make_spec(cell, root, cache, **fields)).run()
    assert outcome is not None
    return outcome[0]


def pid_of(handle: LocalHandle) -> int:
    pid = handle._process.pid
    assert pid is not None
    return pid


def rank_of(handle: LocalHandle) -> int:
    """The process id of the one other rank, found among the children of the worker (one is its guard)."""
    worker = pid_of(handle)
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    (rank,) = (pid for pid in children if b"lossbench.execution.ranks" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return int(rank)


def training(spec: Spec, handle: LocalHandle) -> None:
    """Wait until the worker trains."""
    wait_for(lambda: (spec.run_dir / "checkpoint.pt").exists() or handle.poll() is not None, PATIENCE_S)
    assert handle.poll() is None, log(spec)


#: Dropout is drawn per part of a batch, so without it the two devices and the one do the same.
CELL = make_cell(
    "ce",
    backbone={"dropout": 0.0},
    protocol={"iterations": 30, "optimizer": "sgd", "lr": 0.02, "eval_every": 15, "sync_batchnorm": True},
)
#: Trains until somebody ends it.
LONG = make_cell("ce", protocol={"iterations": 100_000})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path, executor: LocalExecutor) -> Path:
    """The results folder of CELL on two devices."""
    root = tmp_path_factory.mktemp("two")
    spec = make_spec(CELL, root, cache, devices=TWO, threads=2, keep=("weights", "predictions"))
    (handle,) = executor.submit([(spec.run_dir / "spec.json", Request())])
    assert isinstance(handle, LocalHandle)
    assert ended(handle) == EXIT_DONE, log(spec)
    return root


@pytest.mark.slow
def test_two_devices_leave_one_record_and_the_weights_of_one(whole: Path, tmp_path: Path, cache: Path) -> None:
    single = alone(CELL, tmp_path, cache, keep=("weights", "predictions"))
    (record,) = records(whole)
    assert record.id == single.id == CELL.id
    assert record.notes == [
        "ran on 2 devices with micro-batches of 2 of 4 images on each; BatchNorm normalised over all of them together"
    ]
    assert record.provenance["hardware"]["device"] == "cpu,cpu"
    assert record.provenance["hardware"]["devices"] == 2
    assert record.provenance["initial_weights_sha256"] == single.provenance["initial_weights_sha256"]
    mine, theirs = (load_file(root / "runs" / CELL.id / "model.safetensors") for root in (whole, tmp_path))
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4, msg=lambda m, name=name: f"{name}: {m}")
    np.testing.assert_allclose(record.curve["loss"], single.curve["loss"], rtol=1e-3)
    np.testing.assert_allclose(record.curve["eval_miou"], single.curve["eval_miou"], atol=2e-3)
    assert metrics.mean_iou(record.confusion) == pytest.approx(metrics.mean_iou(single.confusion), abs=2e-3)
    folders = [root / "runs" / CELL.id / "predictions" for root in (whole, tmp_path)]
    assert sorted(f.name for f in folders[0].iterdir()) == sorted(f.name for f in folders[1].iterdir())


@pytest.mark.slow
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(
    start: Start, whole: Path, tmp_path: Path, cache: Path
) -> None:
    """Only the worker gets the signal; all ranks stop at one step."""
    spec = make_spec(CELL, tmp_path, cache, devices=TWO, threads=2, checkpoint_every_s=0.0)
    handle = start(spec)
    training(spec, handle)
    handle.stop()
    assert ended(handle) == EXIT_CHECKPOINTED, log(spec)
    assert not records(tmp_path)
    assert ended(start(spec)) == EXIT_DONE, log(spec)
    (resumed,), (uninterrupted,) = records(tmp_path), records(whole)
    assert resumed.provenance["weights_sha256"] == uninterrupted.provenance["weights_sha256"]
    assert np.array_equal(resumed.confusion, uninterrupted.confusion)
    assert resumed.notes[-1].startswith("resumed from a checkpoint at step ")


@pytest.mark.slow
def test_a_killed_rank_ends_the_cell_at_once_with_its_reason(start: Start, tmp_path: Path, cache: Path) -> None:
    spec = make_spec(LONG, tmp_path, cache, devices=TWO, checkpoint_every_s=0.0)
    handle = start(spec)
    training(spec, handle)
    os.kill(rank_of(handle), signal.SIGKILL)
    # Far from gloo's 30 minutes; the rest is slack for a busy machine.
    assert ended(handle, 120) == EXIT_LOST, log(spec)
    assert error(spec)["message"] == "the process of device 2 of 2 (cpu) was killed by SIGKILL"
    assert error(spec)["kind"] == "RankLost"


@pytest.mark.slow
def test_no_rank_outlives_its_worker(start: Start, tmp_path: Path, cache: Path) -> None:
    spec = make_spec(LONG, tmp_path, cache, devices=TWO, checkpoint_every_s=0.0)
    handle = start(spec)
    training(spec, handle)
    other = rank_of(handle)
    os.kill(pid_of(handle), signal.SIGKILL)  # not its group, and no look at the handle, which would kill that
    wait_for(lambda: gone(other), 120)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "code", "words"),
    [
        ("return ce", "raise ValueError('what is this')", EXIT_FAILED, "ValueError: what is this (mine.py:"),
        # The worker hangs where no exception reaches it, as in a collective of NCCL's.
        ("__import__('time').sleep(1000)", "raise MemoryError('no more')", EXIT_OUT_OF_MEMORY, "out of memory"),
    ],
)
def test_what_one_rank_dies_of_is_what_the_cell_failed_of(
    start: Start, tmp_path: Path, cache: Path, first: str, second: str, code: int, words: str
) -> None:
    is_second = "__import__('sys').argv[-1] == '1'"  # see `ranks.main`
    body = f"if self.calls > 1 and {is_second}:\n            {second}\n"
    write_plugin(tmp_path, "mine", f"{body}        if self.calls > 1:\n            {first}\n        return ce")
    plugins = (tmp_path / "mine.py",)
    spec = make_spec(make_cell("mine", plugins=plugins), tmp_path, cache, devices=TWO, plugins=plugins)
    assert ended(start(spec)) == code, log(spec)
    assert words in error(spec)["message"]
    assert "the process of device 2 of 2 (cpu)" in error(spec)["message"]


def test_a_rank_that_is_not_up_yet_outlives_a_clusters_signals() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    process = ranks._start([sys.executable, "-c", "input()"])
    for number in (signal.SIGUSR2, signal.SIGTERM):
        process.send_signal(number)
    process.communicate(b"go on\n", timeout=PATIENCE_S)
    assert process.returncode == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


# --- less memory ---


def test_a_cell_that_ran_out_of_memory_goes_on_from_its_checkpoint_with_halved_micro_batches(
    tmp_path: Path, cache: Path
) -> None:
    cell = make_cell("cdfl")
    asked = iter(range(100))
    spec = make_spec(cell, tmp_path / "a", cache)
    assert CellRun(spec, should_stop=lambda: next(asked) >= 4).run() is None
    record = alone(cell, tmp_path / "a", cache, split=2)
    assert record.id == cell.id
    assert record.notes == [
        "out of memory: ran with micro-batches of 2 instead of 4 images (same effective batch); "
        "BatchNorm saw the smaller ones",
        "resumed from a checkpoint at step 4",
    ]
    assert record.costs["micro_batch_split"] == 2
    assert record.costs["extra_forwards"] == 10


def test_halved_micro_batches_are_accumulated_ones_bit_for_bit(tmp_path: Path, cache: Path) -> None:
    split = alone(make_cell("ce"), tmp_path / "a", cache, split=2)
    accumulated = alone(make_cell("ce", protocol={"accumulate": 2}), tmp_path / "b", cache)
    assert split.provenance["weights_sha256"] == accumulated.provenance["weights_sha256"]


def test_what_did_not_fit_once_is_not_tried_whole_again(tmp_path: Path, cache: Path) -> None:
    asked = iter(range(100))
    cell = make_cell("ce")
    assert CellRun(make_spec(cell, tmp_path, cache, split=2), should_stop=lambda: next(asked) >= 4).run() is None
    assert alone(cell, tmp_path, cache).costs["micro_batch_split"] == 2


def test_a_split_that_does_not_divide_is_refused(tmp_path: Path, cache: Path) -> None:
    spec = make_spec(make_cell("ce", protocol={"batch_size": 3}), tmp_path, cache, split=2)
    with pytest.raises(ConfigError, match="3 images a step in 2 micro-batches cannot be shared out evenly"):
        CellRun(spec)


def test_the_notes_say_what_may_bear_on_the_number() -> None:
    protocol = Protocol(batch_size=16, accumulate=2)
    assert sharing(protocol, split=1, devices=1) == []
    several, memory = sharing(protocol, split=2, devices=2)
    assert several.startswith(
        "ran on 2 devices with micro-batches of 2 of 16 images on each; BatchNorm normalised over"
    )
    assert several.endswith("each by itself")
    assert "micro-batches of 2 instead of 4 images" in memory
    assert resumption(7, was=1, now=2) == "resumed from a checkpoint at step 7, made on 1 device"
    assert resumption(7, was=2, now=2) == "resumed from a checkpoint at step 7"
