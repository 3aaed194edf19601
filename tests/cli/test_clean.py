import errno
import json
import shutil
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.execution.claim import Claim


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("stopped", "running"):
        folder = tmp_path / "results" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text("log")
    entry = tmp_path / "cache" / "streets-train-0-v1"
    entry.mkdir(parents=True)
    (entry / "header.json").write_text("{}")
    (tmp_path / "cache" / "thesis").mkdir()
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def clean(world: Path, *options: str) -> int:
    return run(["clean", "--results", str(world / "results"), *options])


def test_nothing_goes_without_yes(world: Path) -> None:
    assert clean(world, "--all", "--cache") == 0
    assert (world / "results/runs/stopped/log.txt").is_file()
    assert (world / "cache/streets-train-0-v1").is_dir()


def test_unfinished_and_running_cells_are_kept(world: Path) -> None:
    assert clean(world, "--yes") == 0
    assert (world / "results/runs/stopped").is_dir()
    with Claim(world / "results/runs/running"):
        assert clean(world, "--all", "--yes") == 0
    assert not (world / "results/runs/stopped").exists()
    assert (world / "results/runs/running/log.txt").is_file()


def test_a_cell_in_a_clusters_queue_is_kept(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(world))  # no squeue: what was submitted counts as queued
    submission = {"executor": "slurm", "job": "7", "folder": "x", "cells": ["stopped"], "submitted": 1.0}
    (world / "results/runs/stopped/submission.json").write_text(json.dumps(submission))
    assert clean(world, "--all", "--yes") == 0
    assert (world / "results/runs/stopped/log.txt").is_file()
    assert not (world / "results/runs/running").exists()


def test_only_what_the_cache_put_there_goes(world: Path) -> None:
    assert clean(world, "--cache", "--yes") == 0
    assert not (world / "cache/streets-train-0-v1").exists()
    assert (world / "cache/thesis").is_dir()


def test_a_folder_that_cannot_be_removed_is_told_of(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On NFS a log that some process holds open leaves a file .nfs... behind."""

    def stays(folder: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(shutil, "rmtree", stays)
    assert clean(world, "--all", "--yes") == 0
    said = capsys.readouterr()
    assert said.err.count("is not removed whole: Directory not empty") == 2
    assert "removed 0 folders" in said.out
