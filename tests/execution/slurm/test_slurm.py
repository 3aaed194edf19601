"""Suites on a real Slurm of one node."""

from __future__ import annotations

import pytest

from tests.execution.slurm.work import Work

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_cells_run_as_one_array_packed_by_their_share_of_a_gpu(work: Work) -> None:
    extra = "resources: {gpus: 0.5, memory_gb: 0.2, minutes: 5, slurm_partition: main, slurm_setup: ['echo hello']}\n"
    suite = work.suite("[ce, focal, balanced_ce, cdfl]", extra=extra)
    done = work.run(suite)
    assert done.returncode == 0, done.stderr
    assert len(work.records) == 4
    assert work.starts == [1, 1, 1, 1]
    assert len(work.submissions()) == 1
    assert sorted(job.partition("_")[2] for job in work.jobs) == ["0", "1"]
    assert not list(work.folder.glob("results/runs/*/submission.json"))
