from __future__ import annotations

import math

import pytest

from lossbench import metrics
from lossbench.errors import ConfigError, SetupError
from lossbench.suite import load_suite
from lossbench.tracking import open_trackers
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
    record.diagnostics = {"u_mean": [0.1, None, 0.3], "class_steps": [1], "u_class": [[1, 2]]}
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
    }
    assert story.scores["final/miou"] == pytest.approx(100 * metrics.mean_iou(record.confusion))
    assert story.scores["iou/road"] == pytest.approx(100 * metrics.iou(record.confusion)[0])
    assert "final/ece" not in story.scores  # this record has no counts for it
    assert story.finished - story.started == 60
    assert by_step(story.series)[0] == (1, {"train/loss": 2.0, "train/lr": 0.1, "diagnostics/u_mean": 0.1})


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


def test_a_missing_client_is_said_before_anything_runs(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s.yaml").write_text(SUITE + "track: wandb\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SetupError) as caught:
        open_trackers(load_suite(tmp_path / "s.yaml").track, suite="s", folder=tmp_path)
    assert caught.value.hint == "pip install 'lossbench[wandb]'"
