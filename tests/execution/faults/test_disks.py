"""Disks that are full, become read-only, or lose what was on them while cells run."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lossbench.cells import Component
from lossbench.errors import SetupError
from lossbench.execution.events import EventReader, EventWriter
from lossbench.execution.guard import BoundedLog
from lossbench.execution.scheduler import read_error
from lossbench.execution.spec import EXIT_DONE, EXIT_FAILED, EXIT_UNWRITABLE, Spec
from lossbench.records import Record
from lossbench.registry import Registry
from lossbench.store import Store
from lossbench.training import checkpoint
from tests.datasets import trees
from tests.execution.cellfactory import make_cell
from tests.execution.faults.workers import SHORT, harmful_cell, log_of, run_file, run_worker

SmallDisk = Callable[[str], Path]


def fill(folder: Path) -> Path:
    """Take all that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017
    return path


def spec_of(cell_and_plugin: object, results: Path, cache: Path, **fields: object) -> Spec:
    cell, plugin = cell_and_plugin  # type: ignore[misc]
    plugins = (plugin,) if plugin is not None else ()
    return Spec(cell.to_json(), cell.id, results, cache.parent / "data", cache, plugins, **fields)  # type: ignore[arg-type]


def record_of(spec: Spec) -> Record | None:
    return Store(spec.results).load(spec.parse_cell())


# --- the parts ---


def test_a_log_on_a_full_disk_loses_lines_and_goes_on(small_disk: SmallDisk) -> None:
    disk = small_disk("256k")
    log = BoundedLog(disk / "log.txt")
    log.write(b"first\n")
    filler = fill(disk)
    for _ in range(3):
        log.write(b"y" * 10_000)
    filler.unlink()
    log.write(b"last\n")
    log.close()
    text = (disk / "log.txt").read_text()
    assert text.startswith("first\n")
    assert "last\n" in text
    assert "bytes could not be written" in text
    assert "\0" not in text


def test_events_on_a_full_disk_are_lost_and_nothing_else(small_disk: SmallDisk) -> None:
    disk = small_disk("256k")
    writer = EventWriter(disk / "events.jsonl")
    filler = fill(disk)
    for step in range(3000):
        writer.send("step", step=step)
    filler.unlink()
    writer.send("done")
    assert [event["event"] for event in EventReader(disk / "events.jsonl").new()][-1] == "done"


def test_a_checkpoint_that_does_not_fit_leaves_the_older_ones(small_disk: SmallDisk) -> None:
    path = small_disk("1m") / "checkpoint.pt"
    checkpoint.save(path, {"step": 1, "w": torch.zeros(60_000)})
    checkpoint.save(path, {"step": 2, "w": torch.zeros(60_000)})
    with pytest.raises(SetupError, match="cannot write checkpoint"):
        checkpoint.save(path, {"step": 3, "w": torch.zeros(600_000)})
    assert (checkpoint.load(path) or {})["step"] == 2


def test_the_older_checkpoint_makes_room_for_the_new_one(small_disk: SmallDisk) -> None:
    disk = small_disk("1m")
    path = disk / "checkpoint.pt"
    for step in range(6):  # room for two and not for three
        checkpoint.save(path, {"step": step, "w": torch.zeros(100_000)})
        assert (checkpoint.load(path) or {})["step"] == step
    assert not list(disk.glob("*.tmp"))


# --- a worker ---


@pytest.mark.slow
def test_a_cell_whose_checkpoints_do_not_fit_is_trained_all_the_same(small_disk: SmallDisk, tmp_path: Path) -> None:
    spec = spec_of((make_cell(protocol=SHORT), None), small_disk("3m"), tmp_path / "cache", checkpoint_every_s=0.0)
    assert run_worker(spec) == EXIT_DONE
    assert record_of(spec) is not None
    assert log_of(spec).count("going on without it") == 4


@pytest.mark.slow
def test_a_record_that_does_not_fit_keeps_the_training_and_a_rerun_scores(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    """The disk fills up in the last step."""
    disk = small_disk("30m")
    body = f"if call == 3:\n    from tests.execution.faults.test_disks import fill\n    fill(Path({str(disk)!r}))"
    made = harmful_cell(tmp_path, "fills", body)
    spec = spec_of(made, disk, tmp_path / "cache", checkpoint_every_s=0.0, keep_images=0)
    assert run_worker(spec) in (EXIT_FAILED, EXIT_UNWRITABLE)  # as far as there is room for its error
    assert record_of(spec) is None
    assert not list(spec.results.rglob("records/*/*/*.json"))
    (disk / "filler").unlink()
    assert run_worker(spec) == EXIT_DONE
    assert "resuming at step 4" in log_of(spec)
    record = record_of(spec)
    assert record is not None

    whole = spec_of(made, tmp_path / "whole", tmp_path / "cache")
    assert run_worker(whole) == EXIT_DONE
    expected = record_of(whole)
    assert expected is not None
    assert record.provenance["weights_sha256"] == expected.provenance["weights_sha256"]
    assert (record.confusion == expected.confusion).all()


@pytest.mark.slow
def test_results_that_become_read_only_fail_the_cell_with_the_machines_exit_code(
    make_read_only: Callable[[Path], None], tmp_path: Path
) -> None:
    spec = spec_of((make_cell(protocol=SHORT), None), tmp_path / "results", tmp_path / "cache")
    path = spec.write()
    make_read_only(spec.results)
    assert run_file(path) == EXIT_UNWRITABLE
    assert record_of(spec) is None


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cache", "results"])
def test_a_folder_that_vanishes_does_not_stop_who_has_begun(tmp_path: Path, what: str) -> None:
    body = f"if call == 2: shutil.rmtree({str(tmp_path / what)!r})"
    made = harmful_cell(tmp_path, "vanish", body)
    spec = spec_of(made, tmp_path / "results", tmp_path / "cache", checkpoint_every_s=0.0)
    assert run_worker(spec) == EXIT_DONE
    assert record_of(spec) is not None


@pytest.mark.slow
def test_data_that_vanishes_stops_only_who_begins_after_it(tmp_path: Path) -> None:
    data = trees.folder(tmp_path / "images", count=6)
    given = {"title": "demo", "path": str(data), "classes": ["a", "b", "c"]}
    dataset = Component("folder", Registry("dataset").get("folder").resolve(given), tuple(given))
    cell, plugin = harmful_cell(tmp_path, "vanish", f"if call == 2: shutil.rmtree({str(data)!r})")
    cells = [replace(cell, dataset=dataset, seed=seed) for seed in (0, 1)]
    begun, later = (spec_of((one, plugin), tmp_path / "results", tmp_path / "cache") for one in cells)
    assert run_worker(begun) == EXIT_DONE
    assert record_of(begun) is not None
    assert run_worker(later) == EXIT_FAILED
    error = read_error(later.run_dir) or {}
    assert error["exit_code"] == 3
    assert str(data) in error["message"]
