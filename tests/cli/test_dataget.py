"""`lossbench data get`: what is fetched, from a server on this machine."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from lossbench.cli.main import run
from lossbench.datasets.ade20k import ADE20K
from lossbench.datasets.oxford_pet import OxfordPet
from lossbench.datasets.voc2010 import VOC2010
from tests.data.archives import Served, serving, tar_of, zip_of
from tests.datasets import catalogue_trees, trees


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


# --- several archives, and zips ---


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A mirror with the two archives of oxford_pet, whose checksums are expected."""
    tree = catalogue_trees.oxford_pet(tmp_path / "pets")
    contents = {name: tar_of(tree, name, "gz") for name in ("images", "annotations")}
    expected = tuple(
        replace(archive, md5=hashlib.md5(contents[archive.top], usedforsecurity=False).hexdigest())
        for archive in OxfordPet.archives
    )
    monkeypatch.setattr(OxfordPet, "archives", expected)
    with serving(b"") as served:
        served.files = {f"/pets/{archive.file}": contents[archive.top] for archive in expected}
        served.url = served.url.removesuffix("a.tar") + "pets/"
        yield served


def test_both_archives_of_oxford_pet(pets: Served, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 0
    said = capsys.readouterr()
    for archive in OxfordPet.archives:
        assert f"expected MD5: {archive.md5}" in said.out
        assert f"fetching {archive.file}" in said.err
    assert pets.paths == ["/pets/images.tar.gz", "/pets/annotations.tar.gz"]
    assert [entry.name for entry in root.iterdir()] == ["oxford_pet"]
    assert sorted(entry.name for entry in (root / "oxford_pet").iterdir()) == ["annotations", "images"]
    assert run(["data", "check", "oxford_pet"]) == 0
    assert "train 8, val 2, test 3" in capsys.readouterr().out
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert len(pets.asked) == 2


def test_what_was_fetched_before_a_failure_is_not_fetched_again(
    pets: Served, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = pets.files.pop("/pets/annotations.tar.gz")
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 3
    assert "404" in capsys.readouterr().err
    assert [entry.name for entry in (root / "oxford_pet").iterdir()] == ["images"]
    pets.files["/pets/annotations.tar.gz"] = labels[:100]
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 3
    assert "expected " in capsys.readouterr().err
    pets.files["/pets/annotations.tar.gz"] = labels
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 0
    assert pets.paths == ["/pets/images.tar.gz", *["/pets/annotations.tar.gz"] * 3]
    assert run(["data", "check", "oxford_pet"]) == 0


def test_a_copy_in_torchvision_s_layout_is_enough(pets: Served, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue_trees.oxford_pet(root / "oxford_pet", "oxford-iiit-pet")
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert pets.asked == []


def test_all_there_but_not_whole(pets: Served, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalogue_trees.oxford_pet(root / "oxford_pet")
    (root / "oxford_pet/annotations/test.txt").unlink()
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 3
    assert "not all of the dataset is in it" in capsys.readouterr().err
    assert pets.asked == []


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_one_address_does_not_do_for_two_archives(
    pets: Served, root: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "get", "oxford_pet", "--url", f"{pets.url}images.tar.gz", *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "oxford_pet has 2 archives (images.tar.gz, annotations.tar.gz), --url gives one address" in said.err
    assert "ending in /" in said.err
    assert pets.asked == []


def test_it_asks_once_for_all_that_is_missing(pets: Served, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr(typer, "confirm", lambda text, **_: asked.append(text))
    assert run(["data", "get", "oxford_pet", "--url", pets.url]) == 130
    assert asked == ["Download images.tar.gz (images, 0.8 GB) and annotations.tar.gz (trimaps and lists, 19 MB)?"]
    assert pets.asked == []


def test_a_zip_from_a_folder_or_an_address_of_its_own(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = zip_of(catalogue_trees.ade20k(tmp_path / "ade"), mac=True)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(ADE20K, "archives", (replace(ADE20K.archives[0], md5=md5),))
    with serving(data) as served:
        served.files = {"/ADEChallengeData2016.zip": data}
        for url in (served.url, served.url.removesuffix("a.tar")):
            assert run(["data", "get", "ade20k", "--url", url]) == 0
            assert run(["data", "check", "ade20k"]) == 0
            assert "train 3, val 2" in capsys.readouterr().out
            assert [entry.name for entry in (root / "ade20k").iterdir()] == ["ADEChallengeData2016"]
            shutil.rmtree(root / "ade20k")
        assert served.paths == ["/a.tar", "/ADEChallengeData2016.zip"]
