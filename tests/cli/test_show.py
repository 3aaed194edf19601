"""`lossbench show`: losses from their files, datasets with shares, records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.cells import Cell, Component
from lossbench.cli.main import run
from lossbench.cli.show import fill_docstring
from lossbench.protocol import Protocol
from lossbench.records import Record
from lossbench.registry import Registry
from lossbench.store import Store

PLUGIN = '''
from typing import Literal

import numpy as np

from lossbench.datasets.base import SegmentationDataset
from lossbench.registry import register_backbone, register_dataset, register_loss


@register_loss("mine")
class Mine:
    """My own loss.

    Sums what there is to sum over all the pixels that are not ignored, and divides by their
    number at the end.

    Args:
        gamma: exponent, which is 2 in the paper by nearly everybody who ever wrote about it,
            and therefore here.
    """

    def __init__(self, num_classes: int, *, gamma: float = 2.0, mode: Literal["a", "b"] = "a"): ...


@register_backbone("twice")
@register_loss("twice")
class Twice:
    """A loss and a backbone."""

    def __init__(self): ...


@register_dataset("stripes")
class Stripes(SegmentationDataset):
    """Three columns of the first class to one of the second."""

    licence = "anything goes"
    how_to_get = "nothing to get"
    class_names = ("wide", "narrow", "never")
    colors = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    splits = ("train", "val")

    def __init__(self, *, height: int = 4): self.height = height
    def names(self, split): return ["0", "1"] if split == "train" else ["2"]
    def files(self, split): return []
    def fingerprint(self, split): return f"stripes{self.height}{split}"
    def load(self, split, index):
        target = np.zeros((self.height, 4), np.uint8)
        target[:, 3] = 1
        return np.zeros((self.height, 4, 3), np.uint8), target
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    return str(file)


def test_a_loss(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "loss", "mine", "--plugin", plugin]) == 0
    out = capsys.readouterr().out
    assert out.startswith("loss mine\n\nMy own loss.\n")
    assert "        and therefore here." in out or "ever wrote\n        about it, and therefore here." in out
    assert [line.split() for line in out.splitlines() if line.startswith("gamma")] == [["gamma", "float", "2.0"]]
    assert "filled in by lossbench: num_classes" in out
    assert f"file: {plugin}:10" in out


def test_a_bare_name(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "mine", "--plugin", plugin, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["kind"] == "loss"
    assert shown["description"].startswith("My own loss.\n\nSums")


@pytest.mark.parametrize("kind", ["loss", "backbone"])
def test_everything_registered_can_be_shown(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in Registry(kind).names():  # type: ignore[arg-type]
        assert run(["show", kind, name]) == 0
        assert capsys.readouterr().out.startswith(f"{kind} {name}\n")


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["twice"], "'twice' is a loss and a backbone", "say which, e.g. lossbench show loss twice"),
        (["min"], "no loss, backbone or dataset is called 'min'", "did you mean 'mine'?"),
        (["loss", "min"], "unknown loss 'min'", "did you mean 'mine'?"),
        (["los", "mine"], "unknown kind of thing to show 'los'", "did you mean 'loss'?"),
        (["loss"], "which loss?", "lossbench show loss NAME"),
        (["record", "abcd", "--results", "nowhere"], "no record with an id that starts with 'abcd'", "`lossbench"),
        (["abcd1234", "--results", "nowhere"], "no record with an id that starts with 'abcd1234'", "`lossbench"),
    ],
)
def test_what_cannot_be_shown(
    plugin: str, arguments: list[str], error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", *arguments, "--plugin", plugin]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {error}")
    assert f"hint: {hint}" in captured.err


def test_a_dataset_with_its_shares(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "dataset", "stripes", "--plugin", plugin]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert ["wide", "75.00", "75.00"] in rows
    assert ["narrow", "25.00", "25.00"] in rows
    assert ["never", "0.00", "0.00"] in rows
    assert ["images", "2", "1"] in rows
    assert ["commonest", ":", "rarest", "3", ":", "1", "3", ":", "1"] in rows
    assert "licence: anything goes" in captured.out
    assert "reading train" in captured.err  # progress is no data


def test_a_dataset_as_json(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "stripes", "--plugin", plugin, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["splits"]["train"] == {
        "images": 2, "class_pixels": [24, 8, 0], "imbalance_ratio": 3.0, "absent_classes": ["never"],
    }  # fmt: skip
    assert shown["classes"] == ["wide", "narrow", "never"]


def test_a_dataset_that_is_not_there(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "dataset", "camvid"]) == 0
    out = capsys.readouterr().out
    assert "how to get: " in out
    assert "not read: " in out


# --- records ---


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A record in tmp_path/results."""
    cell = Cell(Component("stripes", {"height": 4}), Component("twice"), Component("mine"), 3, Protocol(iterations=5))
    record = Record(
        cell=cell.identity,
        labels={"dataset": "stripes", "backbone": "twice", "loss": "mine"},
        status="ok",
        class_names=["wide", "narrow"],
        confusion=np.array([[9, 3], [0, 4]], dtype=np.int64),
        train_pixels=[24, 8],
        costs={"ms_per_step": 1.5},
    )
    # TP, FP, FN of the one image
    Store(tmp_path / "results").write(cell, record, [[[9, 0, 3], [4, 3, 0]]], ["image"])
    return record


def test_a_record(plugin: str, tmp_path: Path, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--results", str(tmp_path / "results"), "--plugin", plugin]
    assert run(["show", "record", record.id[:6], *options]) == 0
    out = capsys.readouterr().out
    assert record.id in out
    assert "stripes / twice / mine / seed 3" in out
    assert "66.07" in out or "66.1" in out  # mIoU: (9/12 + 4/7) / 2
    assert "stale" in out  # it says nothing of the code that made it
    assert run(["show", record.id, *options]) == 0  # a bare id
    assert capsys.readouterr().out == out
    (file,) = (tmp_path / "results").rglob("*.json")
    for name in (file, file.name, file.with_suffix(".npz"), file.stem):  # as `verify` prints it
        for words in ([str(name)], ["record", str(name)]):
            assert run(["show", *words, *options]) == 0
            assert capsys.readouterr().out == out


def test_a_record_as_json(plugin: str, tmp_path: Path, record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "record", record.id, "--results", str(tmp_path / "results"), "--json"]) == 0
    assert Record.from_json(capsys.readouterr().out).id == record.id


# --- docstrings ---


def test_paragraphs_flow_items_hang_and_code_stays() -> None:
    code = "Example::\n\n    a:\n      b   # c\n\n"
    text = f"One two\nthree.\n\n{code}Args:\n    x: first\n        second: third.\n    y: z\n- item\n"
    assert fill_docstring(text, 80) == [
        "", "One two three.", "", "Example::", "", "    a:", "      b   # c", "",
        "Args:", "    x: first second: third.", "    y: z", "- item",
    ]  # fmt: skip
    assert fill_docstring("    gamma: " + "word " * 8, 30) == [
        "", "    gamma: word word word word", "        word word word word",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(["word", "a: b", "  x: y", "    deep", "", "- item", "Args:"]), max_size=12))
def test_filling_loses_no_word(lines: list[str]) -> None:
    filled = fill_docstring("\n".join(lines), 40)
    assert " ".join(filled).split() == " ".join(lines).split()
    assert max(map(len, filled)) <= 40
