"""`lossbench data`: where, get, check."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import typer
from PIL import Image

from lossbench.cli.main import run
from lossbench.registry import Registry
from tests.datasets import trees


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small data set for `folder` and a suite that describes it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "roads" / kind / split).mkdir(parents=True)
        for name in ("a", "b"):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"roads/images/{split}/{name}.png")
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / f"roads/masks/{split}/{name}.png")
    (tmp_path / "mine.py").write_text(
        "from lossbench.registry import register_loss, register_backbone\n"
        "@register_backbone('net')\nclass Net:\n    def __init__(self, num_classes: int): ...\n"
        "@register_loss('own')\nclass Own:\n    def __init__(self): ...\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "datasets: [{name: folder, title: roads, path: roads, classes: [other, line]}]\n"
        "backbones: [net]\nlosses: [own]\nplugins: [mine.py]\n"
    )
    return tmp_path


def test_where(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "where", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["data_root"] == str(home / "data")
    assert said["set_by"] == "LOSSBENCH_DATA"
    places = {row["name"]: row for row in said["datasets"]}
    assert list(places) == Registry("dataset").names()
    assert places["camvid"] == {
        "name": "camvid",
        "folder": str(home / "data" / "camvid"),
        "there": False,
        "read_from": [],
    }
    assert places["streets"]["folder"] is None
    (home / "data" / "camvid").mkdir()
    assert run(["data", "where", "camvid"]) == 0
    assert "camvid  there" in capsys.readouterr().out


def test_bare_is_where(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data"]) == 0
    assert "(LOSSBENCH_DATA)" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize("name", Registry("dataset").names())
def test_get_says_how(
    name: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["data", "get", name, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["how_to_get"]
    assert said["licence"]
    fetched = any(file["url"] and file["md5"] for file in said["files"])
    if fetched:  # see test_dataget.py; this says the same and then cannot reach the place
        with monkeypatch.context() as patch:
            patch.setattr("lossbench.data.download.urlopen", Mock(side_effect=URLError("no network")))
            assert run(["data", "get", name]) == 3
    else:
        assert run(["data", "get", name]) == 0
    out = capsys.readouterr().out
    assert said["how_to_get"] in out
    for file in said["files"]:
        assert file["file"] in out


def test_check_of_a_suites_dataset(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check", "folder", "--suite", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "images: train 2, val 2" in out
    assert "no problems" in out


def test_check_finds_problems_and_exits_with_3(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = home / "roads/masks/val/b.png"
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(bad)
    assert run(["data", "check", "folder", "--suite", "mine.yaml"]) == 3
    captured = capsys.readouterr()
    assert f"{bad}" in captured.out
    assert "error" not in captured.err
    assert run(["data", "check", "folder", "--suite", "mine.yaml", "--json"]) == 3
    (report,) = json.loads(capsys.readouterr().out)
    assert report["images"] == {"train": 2, "val": 2}
    assert len(report["problems"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "error", "hint"),
    [
        (["check"], 2, "which dataset to check?", "lossbench data check NAME, one of: "),
        (["check", "camvd"], 2, "unknown dataset 'camvd'", "did you mean 'camvid'?"),
        (["chek", "camvid"], 2, "unknown action 'chek'", "did you mean 'check'?"),
        (["check", "camvid"], 3, "camvid: no folder ", ""),
        (["check", "voc2010"], 3, "voc2010: no folder ", "lossbench data get voc2010"),
        (["list", "camvd"], 2, "unknown dataset 'camvd'", "did you mean 'camvid'?"),
        (["get", "cityscapes", "--url", "http://localhost"], 2, "cityscapes is not fetched", "leave it out"),
        (["check", "folder"], 2, "dataset 'folder' needs a value", "its parameters come from a suite: add --suite"),
        (["check", "streets", "--suite", "mine.yaml"], 2, "the suite 'mine.yaml' has no dataset 'streets'", ""),
    ],
)
def test_what_cannot_be_checked(
    home: Path, arguments: list[str], code: int, error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", *arguments]) == code
    err = capsys.readouterr().err
    assert f"error: {error}" in err
    assert hint in err


@pytest.fixture
def cached_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOSSBENCH_CACHE", str(home / "cache"))
    return home


PREPARE = ["data", "prepare", "folder", "--suite", "mine.yaml"]


def test_prepare_decodes_once_and_says_the_size_first(cached_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PREPARE, "--json"]) == 0
    said = capsys.readouterr()
    assert "roads train, roads val: about 0.0 MB into" in said.err.replace("\n", " ")
    assert "decoded roads train: 2 images" in said.err
    rows = json.loads(said.out)
    assert [(row["split"], row["images"]) for row in rows] == [("train", 2), ("val", 2)]
    assert all((Path(row["folder"]) / "header.json").is_file() for row in rows)
    assert run(PREPARE) == 0
    said = capsys.readouterr()
    assert said.err == "", "nothing is left to decode"
    assert said.out.count("2 images") == 2
    assert run(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["entries"]
    assert [entry["usable"] for entry in listed] == [True, True]
    assert all(entry["entry"].startswith("folder-") and entry["bytes"] > 500 for entry in listed)
    assert run(["data", "list", "streets"]) == 0
    assert "folder-" not in capsys.readouterr().out


def test_prepare_of_one_split_and_of_changed_files(cached_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PREPARE, "--split", "val"]) == 0
    assert len(list((cached_home / "cache").glob("folder-*"))) == 1
    Image.fromarray(np.ones((8, 8, 3), np.uint8)).save(cached_home / "roads/images/val/a.png")
    capsys.readouterr()
    assert run([*PREPARE, "--split", "val"]) == 0
    assert "decoded roads val: 2 images" in capsys.readouterr().err
    assert run(["data", "prepare", "folder"]) == 2
    assert "--suite" in capsys.readouterr().err


def test_prepare_refuses_what_does_not_fit_or_is_huge(
    cached_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lossbench.cli.prepare.UNASKED", 10.0)
    assert run(PREPARE) == 3
    assert "add --yes" in capsys.readouterr().err
    usage = shutil.disk_usage(cached_home)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=100))
        assert run([*PREPARE, "--yes"]) == 3
    assert "0.0 MB free" in capsys.readouterr().err
    assert not (cached_home / "cache").exists()
    assert run([*PREPARE, "--yes"]) == 0


def test_prepare_asks_on_a_terminal(
    cached_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda text, **_: asked.append(text))
    assert run(PREPARE) == 130
    assert asked == ["Decode?"]
    assert not (cached_home / "cache").exists()


def test_check_of_a_published_dataset(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its counts, the list that was read, and the folder of another dataset that holds its images."""
    trees.pascal_context(home / "data" / "pascal_context", images=home / "data" / "voc2010")
    for name in ("pascal_context", "pascal_context_paper20"):
        assert run(["data", "check", name]) == 0
        out = capsys.readouterr().out
        assert f"{name}: images: train 3, val 2" in out
        assert "labels: trainval/*.mat, split list: ImageSets/Main/{train,val}.txt" in out
        assert "warning: train: 3 images, the published split has 4998 or 4996" in out
    capsys.readouterr()
    folders = [str(home / "data" / name) for name in ("pascal_context", "voc2010")]
    assert run(["data", "where", "pascal_context_paper20", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (row["there"], row["read_from"]) == (True, folders)
    for action in ("where", "get"):
        assert run(["data", action, "pascal_context_paper20"]) == 0
        out = capsys.readouterr().out
        assert "read from pascal_context, voc2010" in out
        assert "missing" not in out
    (home / "data" / "pascal_context" / "trainval" / "2008_000009.mat").unlink()
    assert run(["data", "check", "pascal_context"]) == 3
    assert "no label " in capsys.readouterr().out


def test_images_alone_are_not_a_dataset(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder that holds another's images is there, but no labels are."""
    trees.pascal_context(home / "labels", images=home / "data" / "voc2010")
    assert run(["data", "where", "pascal_context", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["datasets"]
    assert (row["there"], row["read_from"]) == (False, [])


def test_where_shows_whole_paths(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOSSBENCH_DATA", str(home / ("long" * 30)))
    assert run(["data", "where", "camvid"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    assert "".join(out.partition("missing")[2].split()) == str(home / ("long" * 30) / "camvid")
