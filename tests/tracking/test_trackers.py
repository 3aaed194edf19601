"""What was sent, read back by the clients' own readers."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

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


def again(told: Story) -> Story:
    """The story of the same cell's next record."""
    return replace(told, record="other", series={"train/loss": [(1, 7.0)]})


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
    tracker.send(replace(again(told), name="relabelled seed 0"))  # of a record made anew
    (file,) = (tmp_path / "tb").rglob("events.*")
    assert "relabelled" in str(file)
    found = EventAccumulator(str(file.parent))
    found.Reload()
    assert [e.value for e in found.Scalars("train/loss")] == [7.0]


@pytest.mark.parametrize("store_of_mlflow", ["sqlite:///{}/sub/m.db", "file://{}/runs", "{}/a folder"])
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_of_mlflow: str) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    from lossbench.tracking.to_mlflow import Mlflow

    store = Store(tmp_path / "results")
    cells = filled(store)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    tracker = Mlflow(store_of_mlflow.format(tmp_path), "paper")
    for cell in [*cells, cells[0]]:
        tracker.send(story(store, cell))
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=tracker.uri)
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
    for _ in range(2):
        tracker.send(again(told))  # of a record made anew: it replaces the run
        left = client.search_runs([experiment.experiment_id])
        assert len(left) == len(cells)
        (new,) = (run for run in left if run.data.tags["lossbench.id"] == told.id)
        assert [m.value for m in client.get_metric_history(new.info.run_id, "train/loss")] == [7.0]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("x/mlruns", "file://{}/x/mlruns"),
        ("file:x", "file://{}/x"),
        ("file:///a%20b", "file:///a%20b"),
        ("sqlite:///m.db", "sqlite:///{}/m.db"),
        ("sqlite:////a/m.db", "sqlite:////a/m.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite://", "sqlite://"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("postgresql+psycopg://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("databricks", "databricks"),
    ],
)
def test_stores_of_mlflow_do_not_move_with_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
) -> None:
    from lossbench.tracking.to_mlflow import absolute

    monkeypatch.chdir(tmp_path)
    assert absolute(uri) == expected.format(tmp_path)


def test_what_a_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from lossbench.tracking.to_mlflow import environment

    monkeypatch.setenv("A_OF_LOSSBENCH", "mine")
    monkeypatch.delenv("B_OF_LOSSBENCH", raising=False)
    with environment({"A_OF_LOSSBENCH": "1", "B_OF_LOSSBENCH": "2"}):
        assert [os.environ[f"{name}_OF_LOSSBENCH"] for name in "AB"] == ["mine", "2"]
    assert os.environ["A_OF_LOSSBENCH"] == "mine"
    assert "B_OF_LOSSBENCH" not in os.environ


@pytest.mark.slow
def test_an_mlflow_server_that_is_down_is_given_up_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from lossbench.tracking.to_mlflow import _PATIENCE, Mlflow

    for name in _PATIENCE:
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        store, said = Store(tmp_path / "results"), list[str]()
        before, started = dict(os.environ), time.monotonic()
        other = Noting()
        sender = Sender(store, [Mlflow(f"http://127.0.0.1:{nobody.getsockname()[1]}", "x"), other], said.append)
        sender.add(filled(store))
        assert sender.close()
    assert time.monotonic() - started < 30  # 247 s with MLflow's own settings
    assert dict(os.environ) == before
    assert len(other.ids) == 2
    (warning,) = said
    assert warning.startswith("mlflow (http://127.0.0.1:")


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
    Wandb(tmp_path / cell.id, "other", None, "offline").send(told)
    Wandb(tmp_path / cell.id, "paper", None, "offline").send(again(told))  # of a record made anew
    kept = sorted((tmp_path / cell.id).rglob("*.wandb"))
    assert [file.relative_to(tmp_path / cell.id).parts[0] for file in kept] == ["other", "paper"]
    assert wandb_file(kept[0])[0]["train/loss"] == told.series["train/loss"]
    assert wandb_file(kept[1])[0]["train/loss"] == [(1, 7.0)]


# --- the sender ---


class Noting:
    off = ""
    needs: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str = "noting", fail: bool = False, place: str = "here") -> None:
        self.name, self.fail, self.place, self.ids = name, fail, place, list[str]()

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
    assert "bad (here): sending failed (ConnectionError: the server is down)" in warning
    bad.fail = False
    sender = Sender(store, [bad, good], said.append)
    sender.add(cells)
    sender.close()
    assert len(bad.ids) == 3
    assert len(good.ids) == 3


def test_two_places_of_one_client_are_sent_alike(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = filled(store, 2)
    bad, good, said = Noting(fail=True), Noting(place="there"), list[str]()
    for _ in range(2):
        sender = Sender(store, [bad, good], said.append)
        sender.add(cells)
        assert sender.close()
        bad.fail = False
    assert len(said) == 1
    assert bad.ids == good.ids == [cell.id for cell in cells]
    moved = Noting(place="elsewhere")
    sender = Sender(store, [moved], said.append)
    sender.add(cells)
    assert sender.close()
    assert moved.ids == good.ids


def test_results_may_be_moved_with_what_was_sent_into_them(tmp_path: Path) -> None:
    cells = filled(Store(tmp_path / "a"))
    sent = []
    for name in "ab":
        store, tracker = Store(tmp_path / name), Noting(place=f"sqlite:///{tmp_path / name}/tracked/m.db")
        sender = Sender(store, [tracker], sent.append)
        sender.add(cells)
        assert sender.close()
        sent.append(str(len(tracker.ids)))
        if name == "a":
            (tmp_path / "a").rename(tmp_path / "b")
    assert sent == ["2", "0"]


def test_a_record_made_anew_is_sent_again(tmp_path: Path) -> None:
    store, tracker = Store(tmp_path), Noting()
    cell, other = filled(store)
    for expected in ([cell.id, other.id], [cell.id, other.id, cell.id], [cell.id, other.id, cell.id]):
        sender = Sender(store, [tracker], print)
        sender.add([cell, other])
        assert sender.close()
        assert tracker.ids == expected
        if len(expected) == 2:  # as `--rerun-stale` does
            _, record, per_image = make_record(loss="cdfl", params={"omega": 0.1}, seed=0)
            record.curve |= {"loss": [3.0] * len(record.curve["step"])}
            store.set_aside(cell)
            store.write(cell, record, per_image, [f"i{i}" for i in range(len(per_image))])


class Hanging(Noting):
    def __init__(self) -> None:
        super().__init__("hanging", place="far away")
        self.go_on = threading.Event()

    def send(self, told: Story) -> None:
        self.go_on.wait(60)
        super().send(told)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_tracker_that_hangs_is_not_waited_for(
    tmp_path: Path, interrupted: bool, request: pytest.FixtureRequest
) -> None:
    # A process that a shell starts in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    store, said = Store(tmp_path), list[str]()
    cells = filled(store, 3)
    hanging = Hanging()
    sender = Sender(store, [hanging], said.append)
    sender.add(cells)
    started = time.monotonic()
    if interrupted:  # Ctrl-C
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert not sender.close(limit=50 if interrupted else 0.2)
    assert time.monotonic() - started < 10
    (warning,) = said
    assert "hanging (far away)" in warning
    assert "next run of the suite: 3" in warning
    hanging.go_on.set()
    assert sender._ended.wait(10)
    assert hanging.ids == [cells[0].id]  # no other is begun
    sender = Sender(store, [hanging], said.append)
    sender.add(cells)
    assert sender.close()
    assert hanging.ids == [cell.id for cell in cells]


def test_one_that_is_slow_is_waited_for(tmp_path: Path) -> None:
    class Slow(Noting):
        def send(self, told: Story) -> None:
            time.sleep(0.3)
            super().send(told)

    store, slow = Store(tmp_path), Slow()
    sender = Sender(store, [slow], print)
    sender.add(filled(store, 4))
    assert sender.close(limit=0.8)
    assert len(slow.ids) == 4


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
