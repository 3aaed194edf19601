"""What was sent, read back by the clients' own readers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lossbench.cells import Cell
from lossbench.store import Store
from lossbench.tracking.sender import Sender
from lossbench.tracking.story import Story, story_of
from tests.factories import make_record


def filled(store: Store, count: int = 2) -> list[Cell]:
    cells = []
    for seed in range(count):
        cell, record, per_image = make_record(loss="cdfl", params={"omega": 0.1}, seed=seed)
        record.diagnostics = {"u_mean": [0.1, 0.2, 0.3]}
        record.curve |= {"eval_step": [200], "eval_miou": [0.25]}
        store.write(cell, record, per_image, [f"i{i}" for i in range(len(per_image))])
        cells.append(cell)
    return cells


def story(store: Store, cell: Cell) -> Story:
    record = store.load(cell)
    assert record is not None
    return story_of(record)


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from lossbench.tracking.to_tensorboard import TensorBoard

    store = Store(tmp_path / "results")
    cell, *_ = filled(store)
    told = story(store, cell)
    tracker = TensorBoard(tmp_path / "tb")
    tracker.send(told)
    tracker.send(told)  # replaced, not doubled
    (file,) = (tmp_path / "tb").rglob("events.*")
    found = EventAccumulator(str(file.parent))
    found.Reload()
    for name, points in told.series.items():
        assert [(e.step, pytest.approx(e.value)) for e in found.Scalars(name)] == points
    for name, value in told.scores.items():
        (event,) = found.Scalars(name)
        assert event.value == pytest.approx(value)
    assert "_hparams_/session_start_info" in found.summary_metadata
    assert not list((tmp_path / "tb").rglob(".*"))


def test_mlflow(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from lossbench.tracking.to_mlflow import Mlflow

    store = Store(tmp_path / "results")
    cells = filled(store)
    uri = f"sqlite:///{tmp_path / 'm.db'}"
    tracker = Mlflow(uri, "paper")
    for cell in [*cells, cells[0]]:
        tracker.send(story(store, cell))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("paper")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["lossbench.id"] for run in runs) == sorted(cell.id for cell in cells)
    told = story(store, cells[0])
    run = next(run for run in runs if run.data.tags["lossbench.id"] == told.id)
    assert run.info.status == "FINISHED"
    assert run.data.params["loss.omega"] == "0.1"
    assert run.data.metrics["final/miou"] == pytest.approx(told.scores["final/miou"])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((m.step, m.value) for m in history) == told.series["train/loss"]


def test_mlflow_sends_again_what_was_half_sent(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    from lossbench.tracking.to_mlflow import Mlflow

    store = Store(tmp_path / "results")
    cell, *_ = filled(store)
    tracker = Mlflow(f"sqlite:///{tmp_path / 'm.db'}", "paper")
    tracker._client.create_run(tracker._experiment, tags={"lossbench.id": cell.id})  # a process was killed here
    tracker.send(story(store, cell))
    (run,) = tracker._client.search_runs([tracker._experiment])
    assert run.info.status == "FINISHED"


def blocks(content: bytes) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format (7 bytes of header; blocks of 32 KiB; crc, length, kind)."""
    at, waiting = 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        waiting += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield waiting
            waiting = b""


def wandb_file(file: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, Any], dict[str, Any]]:
    """Series, summary and config of a run in a .wandb file that is whole."""
    from wandb.proto import wandb_internal_pb2

    def named(items: Iterable[Any]) -> dict[str, Any]:
        return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}

    series: dict[str, list[tuple[int, float]]] = {}
    summary: dict[str, Any] = {}
    config: dict[str, Any] = {}
    kinds = []
    for content in blocks(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content)
        kinds.append(record.WhichOneof("record_type"))
        if kinds[-1] == "history":
            values = named(record.history.item)
            for name, value in values.items():
                series.setdefault(name, []).append((values["_step"], value))
        elif kinds[-1] == "summary":
            summary |= named(record.summary.update)
        elif kinds[-1] == "run":
            config |= named(record.run.config.update)
            assert record.run.run_id in file.name
    assert kinds[-1:] == ["exit"]
    return series, summary, config


@pytest.mark.slow
def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from lossbench.tracking.to_wandb import Wandb

    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    store = Store(tmp_path / "results")
    for cell in filled(store, 4):  # the file must be whole when `send` is back: it is marked as sent then
        told = story(store, cell)
        Wandb(tmp_path / cell.id, "paper", None, "offline").send(told)
        (file,) = (tmp_path / cell.id).rglob("*.wandb")
        assert told.id in file.name
        history, summary, config = wandb_file(file)
        assert history["train/loss"] == told.series["train/loss"]
        assert history["val/miou"] == told.series["val/miou"]
        assert summary["final/miou"] == pytest.approx(told.scores["final/miou"])
        assert config["loss.omega"] == 0.1


# --- the sender ---


class Noting:
    def __init__(self, name: str = "noting", fail: bool = False) -> None:
        self.name, self.fail, self.ids = name, fail, list[str]()

    def send(self, told: Story) -> None:
        if self.fail:
            raise ConnectionError("the server is down\nand more")
        self.ids.append(told.id)


def test_each_cell_is_sent_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = filled(store, 3)
    missing = make_record(loss="focal")[0]
    for expected in (3, 0):
        tracker, said = Noting(), list[str]()
        sender = Sender(store, [tracker], said.append)
        sender.add([*cells, missing, cells[0]])
        sender.close()
        assert len(tracker.ids) == sender.sent == expected
        assert said == []


def test_a_tracker_that_fails_is_one_warning_and_sends_the_next_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = filled(store, 3)
    good, bad, said = Noting("good"), Noting("bad", fail=True), list[str]()
    sender = Sender(store, [bad, good], said.append)
    sender.add(cells)
    sender.close()
    assert len(good.ids) == 3
    (warning,) = said
    assert "bad: sending failed (ConnectionError: the server is down)" in warning
    bad.fail = False
    sender = Sender(store, [bad, good], said.append)
    sender.add(cells)
    sender.close()
    assert len(bad.ids) == 3
    assert len(good.ids) == 3


def test_a_disk_that_cannot_be_written_touches_no_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = filled(store)
    (tmp_path / "tracked").write_text("in the way")
    said: list[str] = []
    sender = Sender(store, [Noting()], said.append)
    sender.add(cells)
    sender.close()
    assert len(said) == 1
    assert all(store.has(cell) for cell in cells)


@pytest.mark.slow
def test_a_run_sends_its_cells(tmp_path: Path) -> None:
    import subprocess
    import sys

    pytest.importorskip("tensorboard")
    (tmp_path / "s.yaml").write_text(
        "datasets: [{name: streets, height: 48, width: 64, train_images: 12, val_images: 6}]\n"
        "backbones: [{name: fcn_timm, weights: none}]\nlosses: [ce]\nseeds: 2\ntrack: tensorboard\n"
        "protocol: {iterations: 4, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}\n"
    )
    command = [sys.executable, "-m", "lossbench", "run", "s.yaml", "--threads", "1"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert len(list((tmp_path / "results" / "tracked" / "tensorboard").rglob("events.*"))) == 2
