"""A suite with `tune:` as a user runs it: stopped, gone on with, and read."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from pathlib import Path

import pytest

from lossbench.records import Record
from tests.execution.test_end_to_end import Lossbench, environment, finish, lossbench, start, wait_for  # noqa: F401

SUITE = """
datasets: [{name: streets, height: 48, width: 64, train_images: 12, val_images: 6}]
backbones: [{name: fcn_timm, weights: none}]
losses: [ce, focal]
seeds: 2
tune: {trials: 3, holdout: 0.25, search: {lr: {low: 1e-4, high: 1e-1}}, losses: {focal: {gamma: [0.5, 5.0]}}}
protocol: {iterations: 6, batch_size: 4, crop: [32, 48], optimizer: adamw, lr: 0.002, min_lr: 0.0}
"""


def records(folder: Path) -> dict[str, Record]:
    return {path.stem: Record.from_json(path.read_bytes()) for path in folder.rglob("records/**/*.json")}


@pytest.mark.slow
def test_a_stopped_search_goes_on_to_the_same_end(
    lossbench: Lossbench,  # noqa: F811
    environment: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    whole = lossbench("run", "suite.yaml", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    expected = records(tmp_path / "whole")
    assert len(expected) == 4 + 6 + 4

    process = start(environment, tmp_path, "run", "suite.yaml", "--results", "stopped", "--jobs", "1")
    wait_for(lambda: len(records(tmp_path / "stopped")) >= 6)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = finish(start(environment, tmp_path, "run", "suite.yaml", "--results", "stopped"))
    assert again.returncode == 0, again.stderr
    made = records(tmp_path / "stopped")
    assert made.keys() == expected.keys()
    for name, record in expected.items():
        assert (made[name].confusion == record.confusion).all(), name

    trials = [r for r in expected.values() if r.cell["protocol"].get("holdout")]
    assert len({int(r.confusion.sum()) for r in trials}) == 1
    assert {int(r.confusion.sum()) for r in trials} != {int(r.confusion.sum()) for r in expected.values()}

    board = lossbench("leaderboard", "--results", "whole", "--json")
    blocks = json.loads(board.stdout)["blocks"]
    assert [len(block["rows"]) for block in blocks] == [2, 2]
    assert sorted(row["n"] for block in blocks for row in block["rows"]) == [2, 2, 2, 2]
    for track, count in (("as-is", 1), ("tuned", 1), ("all", 2)):
        found = lossbench("leaderboard", "--results", "whole", "--track", track, "--json")
        assert len(json.loads(found.stdout)["blocks"]) == count
    assert lossbench("leaderboard", "--results", "whole", "--track", "tunned").returncode == 2
    text = lossbench("leaderboard", "--results", "whole").stdout
    assert "tuned" in text
    assert "3 trials" in text

    for arguments in (["suite.yaml"], []):
        shown = lossbench("tuning", *arguments, "--results", "whole", "--json")
        (group,) = json.loads(shown.stdout)["searches"]
        assert [len(curve["trials"]) for curve in group["losses"]] == [3, 3]
        ids = {i for curve in group["losses"] for t in curve["trials"] for i in t["ids"]}
        assert ids == {r.id for r in trials}
    lines = list(csv.DictReader(io.StringIO(lossbench("tuning", "--results", "whole", "-f", "csv").stdout)))
    assert len(lines) == 6
    plain = lossbench("tuning", "--results", "whole").stdout
    assert plain.isascii()
    assert "best of n trials" in plain

    plan = lossbench("plan", "suite.yaml", "--results", "whole")
    assert "14 done" in plan.stdout
    status = lossbench("status", "suite.yaml", "--results", "whole")
    assert status.returncode == 0
    verified = lossbench("verify", "whole")
    assert verified.returncode == 0, verified.stdout
    figure = lossbench("figure", "tuning", "--results", "whole", "-o", "tuning.svg")
    assert figure.returncode == 0, figure.stderr
    assert "focal" in (tmp_path / "tuning.svg").read_text()
    site = lossbench("report", "--results", "whole", "--out", "site")
    assert site.returncode == 0, site.stderr
    assert len(list((tmp_path / "site" / "blocks").iterdir())) == 2
