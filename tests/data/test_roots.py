from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.data.roots import cache_root, data_root, dataset_root, locate_data_root, require_dataset_root
from lossbench.errors import DataError


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBENCH_DATA", "/from/env")
    assert locate_data_root(tmp_path) == (tmp_path, "--data-root")
    assert locate_data_root() == (Path("/from/env"), "LOSSBENCH_DATA")
    assert data_root() == Path("/from/env"), "need not exist: streets needs none"
    monkeypatch.setenv("LOSSBENCH_DATA", "  ")
    assert locate_data_root()[1] == "default"
    assert locate_data_root()[0].is_absolute()


def test_tilde_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOSSBENCH_DATA", "~/data")
    assert data_root() == tmp_path / "data"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert data_root(Path("here")) == tmp_path / "here"


def test_a_given_root_must_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data-root: no folder .*nothing"):
        data_root(tmp_path / "nothing")


def test_missing_dataset_says_where_why_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBENCH_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"camvid: no folder .*/camvid \(data root from LOSSBENCH_DATA\)") as caught:
        require_dataset_root("camvid", how_to_get="ask nicely")
    assert (caught.value.hint, caught.value.exit_code) == ("ask nicely", 3)
    (tmp_path / "camvid").mkdir()
    assert require_dataset_root("camvid", how_to_get="") == dataset_root(tmp_path, "camvid")
    monkeypatch.delenv("LOSSBENCH_DATA")
    with pytest.raises(DataError, match=r"LOSSBENCH_DATA is not set"):
        require_dataset_root("no_such_data_set", how_to_get="")


def test_cache_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSSBENCH_CACHE", "/fast/disk")
    assert cache_root() == Path("/fast/disk")
    monkeypatch.delenv("LOSSBENCH_CACHE")
    assert cache_root().name == "lossbench"
