"""`lossbench data get`: what is fetched, from a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from lossbench.cli.main import run
from lossbench.datasets.voc2010 import VOC2010
from tests.data.archives import Served, serving, tar_of
from tests.datasets import trees


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Served]:
    with serving(tar_of(trees.voc2010(tmp_path / "voc"))) as served:
        yield served


@pytest.fixture
def trusted(mirror: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """The mirror's archive has the checksum that is expected."""
    monkeypatch.setattr(VOC2010, "archives", (replace(VOC2010.archives[0], md5=mirror.md5),))
    return mirror


def test_get_makes_a_dataset_that_can_be_checked(
    trusted: Served, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "get", "voc2010", "--url", trusted.url]) == 0
    said = capsys.readouterr()
    assert f"expected MD5: {trusted.md5}" in said.out
    assert "fetching VOCtrainval_03-May-2010.tar" in said.err
    assert "done; look at it with `lossbench data check voc2010`" in said.err
    assert [entry.name for entry in root.iterdir()] == ["voc2010"]
    assert run(["data", "check", "voc2010"]) == 0
    assert "train 3, val 2" in capsys.readouterr().out
    assert run(["data", "get", "voc2010", "--url", trusted.url]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert len(trusted.asked) == 1


def test_another_archive_than_the_official_one_is_refused(
    mirror: Served, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "get", "voc2010", "--url", mirror.url, "--yes"]) == 3
    assert "expected da459979d0c395079b5c75ee67908abb: it was removed" in capsys.readouterr().err
    assert list(root.iterdir()) == []


def test_half_a_devkit_is_not_written_over(trusted: Served, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "voc2010" / "VOCdevkit").mkdir(parents=True)
    assert run(["data", "get", "voc2010", "--url", trusted.url]) == 3
    assert "not all of the dataset is in it" in capsys.readouterr().err
    assert trusted.asked == []


def test_get_asks_on_a_terminal(trusted: Served, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda text, **_: asked.append(text))
    assert run(["data", "get", "voc2010", "--url", trusted.url]) == 130
    assert asked == ["Download VOCtrainval_03-May-2010.tar (images, lists and VOC labels, 1.3 GB)?"]
    assert trusted.asked == []
    assert run(["data", "get", "voc2010", "--url", trusted.url, "--yes"]) == 0
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://[::1", "'http://[::1' is no address (Invalid IPv6 URL)"),
        ("http://host:x/a.tar", "'http://host:x/a.tar' is no address ("),
        ("ftp://x", "'ftp://x' is no http or https address"),
        ("", "'' is no http or https address"),
        ("http:///a.tar", "'http:///a.tar' is no http or https address"),
        ("http://host/b\u00e4r.tar", "has characters that an address cannot have"),
        ("http://host/a b.tar", "has characters that an address cannot have"),
    ],
)
@pytest.mark.parametrize("more", [["--yes"], ["--json"]])
def test_the_address_is_looked_at_first(
    root: Path, url: str, error: str, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "get", "voc2010", "--url", url, *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert error in said.err
    assert not root.exists()
