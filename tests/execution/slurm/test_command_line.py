"""Suites on a real Slurm as a user runs them: real cells, in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.execution.slurm.work import Work, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_a_pre_empted_cell_ends_in_the_uninterrupted_weights(work: Work) -> None:
    suite = work.suite("[ce]", steps=100)
    alone = work.lossbench("run", suite, "--results", "alone")
    assert alone.returncode == 0, alone.stderr
    process = work.start("run", suite, "--executor", "slurm")
    wait_for(lambda: [e for _, e in work.events if e["event"] == "step" and e["step"] > 3])
    (job,) = work.jobs
    work.cluster.run("scancel", "--signal=USR2", job)
    work.start_now(job)
    done = work.finish(process)
    assert done.returncode == 0, done.stderr
    (record,) = work.records()
    assert record.notes[0].startswith("resumed from a checkpoint")
    (expected,) = work.records("alone")
    assert record.provenance["weights_sha256"] == expected.provenance["weights_sha256"]
    assert (record.confusion == expected.confusion).all()


def test_detached_cells_are_looked_at_joined_and_cancelled(work: Work, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("resources: {gpus: 0.5, slurm_array_parallelism: 1}\n")
    suite = work.suite("[ce, focal, balanced_ce]", steps=3000)
    command = ("run", suite, "--executor", "slurm", "--site", "site.yaml", "--detach")
    left = work.lossbench(*command)
    assert left.returncode == 0, left.stderr
    assert "3 cells submitted" in left.stderr
    assert "lossbench status" in left.stderr
    wait_for(lambda: len({cell for cell, event in work.events if event["event"] == "step"}) == 2)
    status = json.loads(work.lossbench("status", suite, "--json").stdout)
    assert sorted(cell["state"] for cell in status["cells"]) == ["queued", "running", "running"]
    again = work.lossbench(*command)
    assert "0 cells submitted, 3 were queued or running before" in again.stderr
    assert len(work.submissions()) == 1
    cancelled = work.lossbench("cancel", suite)
    assert "3 cells cancelled (2 of them running" in cancelled.stdout
    wait_for(lambda: not set(work.jobs.values()) & {"PENDING", "RUNNING", "COMPLETING"})
    status = json.loads(work.lossbench("status", suite, "--json").stdout)
    assert sorted(cell["state"] for cell in status["cells"]) == ["interrupted", "interrupted", "missing"]
    assert "0 cells cancelled" in work.lossbench("cancel", suite).stdout


def test_a_site_file_is_checked(work: Work, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("resources:\n  slurm_partitoin: gpu\n")
    done = work.lossbench("run", work.suite("[ce]"), "--executor", "slurm", "--site", "site.yaml")
    assert done.returncode == 2
    assert "site.yaml:2: unknown key 'slurm_partitoin'" in done.stderr
    assert "did you mean 'slurm_partition'" in done.stderr
