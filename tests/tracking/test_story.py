from __future__ import annotations

import importlib.machinery
import math
from pathlib import Path

import pytest

from lossbench import metrics
from lossbench.errors import ConfigError, SetupError
from lossbench.suite import load_suite
from lossbench.tracking import Tracker, open_trackers
from lossbench.tracking.story import by_step, story_of
from tests.factories import make_record

SUITE = """
datasets: [streets]
backbones: [{name: fcn_timm, weights: none}]
losses: [ce]
"""


def test_a_story_is_what_the_record_says() -> None:
    _, record, _ = make_record(loss="cdfl", params={"omega": 0.1}, seed=3)
    record.curve = {
        "step": [1, 5, 9], "loss": [2.0, math.nan, 0.5], "lr": [0.1, 0.05, 0.0], "eval_step": [5], "eval_miou": [0.25],
    }  # fmt: skip
    record.diagnostics = {
        "u_mean": [0.1, None, 0.3], "class_steps": [1, 9], "u_class": [[1, 2, None, 4, 5, 6, 7, 8], [2, 3, 4, 5]],
    }  # fmt: skip
    story = story_of(record)
    assert story.id == record.id
    assert story.params["loss.omega"] == 0.1
    assert story.params["seed"] == 3
    assert story.params["protocol.iterations"] == 400
    assert story.series == {
        "train/loss": [(1, 2.0), (9, 0.5)],
        "train/lr": [(1, 0.1), (5, 0.05), (9, 0.0)],
        "val/miou": [(5, 25.0)],
        "diagnostics/u_mean": [(1, 0.1), (9, 0.3)],
        "diagnostics/u_class/road": [(1, 1.0), (9, 2.0)],
        "diagnostics/u_class/building": [(1, 2.0), (9, 3.0)],
        "diagnostics/u_class/sky": [(9, 4.0)],  # there was nothing to tell of it at first
        "diagnostics/u_class/tree": [(1, 4.0), (9, 5.0)],
        "diagnostics/u_class/car": [(1, 5.0)],
        "diagnostics/u_class/person": [(1, 6.0)],
        "diagnostics/u_class/pole": [(1, 7.0)],
        "diagnostics/u_class/train": [(1, 8.0)],
    }
    assert story.scores["final/miou"] == pytest.approx(100 * metrics.mean_iou(record.confusion))
    assert story.scores["iou/road"] == pytest.approx(100 * metrics.iou(record.confusion)[0])
    assert "final/ece" not in story.scores  # this record has no counts for it
    assert story.finished - story.started == 60
    first, values = by_step(story.series)[0]
    assert first == 1
    assert values.items() >= {"train/loss": 2.0, "train/lr": 0.1, "diagnostics/u_mean": 0.1}.items()
    assert "diagnostics/u_class/sky" not in values


@pytest.mark.parametrize("track", ["tensorboard", "[tensorboard, wandb]", "{name: mlflow, uri: 'sqlite:///x.db'}"])
def test_track_is_no_part_of_a_cell(tmp_path, track: str) -> None:
    (tmp_path / "a.yaml").write_text(SUITE)
    (tmp_path / "b.yaml").write_text(SUITE + f"track: {track}\n")
    plain, tracked = load_suite(tmp_path / "a.yaml"), load_suite(tmp_path / "b.yaml")
    assert [c.id for c in plain.cells()] == [c.id for c in tracked.cells()]
    assert plain.track == ()
    assert tracked.track


@pytest.mark.parametrize(
    ("track", "said", "hint"),
    [
        ("tensorbord", "no tracker 'tensorbord'", "tensorboard"),
        ("[{name: mlflow, urii: x}]", "unknown key 'urii'", "uri"),
        ("[{name: wandb, mode: onlin}]", "", "online"),
        ("[{uri: x}]", "", ""),
        ("3", "", ""),
    ],
)
def test_a_wrong_track_is_told_with_its_line(tmp_path, track: str, said: str, hint: str) -> None:
    (tmp_path / "s.yaml").write_text(SUITE + f"track: {track}\n")
    with pytest.raises(ConfigError) as caught:
        load_suite(tmp_path / "s.yaml")
    assert "s.yaml:5" in caught.value.message
    assert said in caught.value.message
    assert hint in f"{caught.value.message} {caught.value.hint}"


def opened(tmp_path: Path, track: str) -> tuple[list[Tracker], list[str]]:
    (tmp_path / "s.yaml").write_text(SUITE + f"track: {track}\n")
    said: list[str] = []
    specs = load_suite(tmp_path / "s.yaml").track
    return open_trackers(specs, suite="s", folder=tmp_path / "tracked", say=said.append), said


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The modules that are there; none of a user's settings is."""
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    names: set[str] = set()
    spec = importlib.machinery.ModuleSpec("x", None, origin="x.py")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: spec if name in names else None)
    return names


@pytest.mark.parametrize(
    ("track", "there", "said", "hint"),
    [
        ("wandb", "", "wandb is not installed", "lossbench[wandb]"),
        ("tensorboard", "wandb", "tensorboard is not installed", "lossbench[tensorboard]"),
        ("[wandb, mlflow]", "wandb", "mlflow is not installed", "lossbench[mlflow]"),
        ("mlflow", "mlflow sqlalchemy sqlite3", "mlflow needs alembic", "lossbench[mlflow]"),
        ("mlflow", "mlflow sqlite3", "mlflow needs sqlalchemy", "lossbench[mlflow]"),
        ("{name: mlflow, uri: 'postgresql://h/d'}", "mlflow sqlalchemy alembic", "mlflow needs psycopg2", "psycopg2"),
        ("{name: mlflow, uri: 'mysql+pymysql://h/d'}", "mlflow sqlalchemy alembic", "mlflow needs pymysql", "pymysql"),
    ],
)
def test_a_missing_package_is_said_before_anything_runs(
    tmp_path: Path, installed: set[str], track: str, there: str, said: str, hint: str
) -> None:
    installed |= set(there.split())
    with pytest.raises(SetupError) as caught:
        opened(tmp_path, track)
    assert said in caught.value.message
    assert hint in str(caught.value.hint)
    assert not (tmp_path / "tracked").exists()


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "./runs", "file:///tmp/runs"])
def test_mlflow_needs_no_database_for_what_is_none(tmp_path: Path, installed: set[str], uri: str) -> None:
    installed.add("mlflow")
    (tracker,), said = opened(tmp_path, f"{{name: mlflow, uri: '{uri}'}}")
    assert tracker.name == "mlflow"
    assert said == []


def test_a_folder_that_a_client_left_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("lossbench.tracking.to_wandb.Wandb.needs", {"left_behind": "x"})
    with pytest.raises(SetupError, match="left_behind"):
        opened(tmp_path, "wandb")


def test_wandb_that_is_disabled_is_sent_nothing(
    tmp_path: Path, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed |= {"wandb", "tensorboard"}
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tracker,), (said,) = opened(tmp_path, "[wandb, tensorboard]")
    assert tracker.name == "tensorboard"
    assert "WANDB_MODE=disabled" in said
    (tracker,), _ = opened(tmp_path, "{name: wandb, mode: offline}")  # the suite's word counts more, as for wandb.init
    assert tracker.name == "wandb"


def test_every_destination_is_a_place_of_its_own(
    tmp_path: Path, installed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed |= {"wandb", "tensorboard", "mlflow", "sqlalchemy", "alembic", "sqlite3"}
    entries = [
        "tensorboard", "{name: tensorboard, folder: other}", "mlflow", "{name: mlflow, experiment: e}",
        "{name: mlflow, uri: 'http://127.0.0.1:1'}", "{name: mlflow, uri: 'sqlite:///x.db'}",
        "{name: mlflow, uri: x}", "wandb", "{name: wandb, project: p}", "{name: wandb, project: p, entity: e}",
        "{name: wandb, mode: online}",
    ]  # fmt: skip
    trackers, _ = opened(tmp_path, f"[{', '.join(entries)}]")
    assert len({(tracker.name, tracker.place) for tracker in trackers}) == len(entries)
    monkeypatch.chdir(tmp_path)  # what is relative is another place there
    moved, _ = opened(tmp_path, f"[{', '.join(entries)}]")
    assert [a.place == b.place for a, b in zip(trackers, moved, strict=True)] == [
        "folder:" not in entry and "x.db" not in entry and "uri: x}" not in entry for entry in entries
    ]


def test_a_password_is_no_part_of_a_place(tmp_path: Path, installed: set[str]) -> None:
    installed |= {"mlflow"}
    (tracker,), _ = opened(tmp_path, "{name: mlflow, uri: 'https://me:secret@host/x'}")
    assert tracker.place == "https://host/x, experiment s"
