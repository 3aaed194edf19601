"""`lossbench cancel` where the results folder cannot be written: Slurm is told all the same of whole tasks."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.execution import slurm_queue, submission
from lossbench.execution.submission import Submission
from lossbench.suite import load_suite

SUITE = """
datasets: [streets]
backbones: [{name: fcn_timm, weights: none}]
losses: [ce, focal]
"""


@pytest.mark.parametrize("whole", [True, False])
def test_a_folder_that_is_read_only(tmp_path, monkeypatch, capsys, whole):
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)
    results = tmp_path / "results"
    cells = [cell.id for cell in load_suite(str(suite)).cells()]
    others = [] if whole else ["0123456789abcdef"]
    for cell in (*cells, *others):
        (results / "runs" / cell).mkdir(parents=True)
    (results / "slurm" / "sub").mkdir(parents=True)
    Submission(results.absolute(), "sub", "7", (*cells, *others)).write()
    told = []
    monkeypatch.setattr(slurm_queue, "states", lambda jobs: dict.fromkeys(jobs, "RUNNING"))
    monkeypatch.setattr(slurm_queue, "_run", lambda *words: told.append(words))

    def read_only(path: Path, word: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(submission, "_write", read_only)
    code = run(["cancel", str(suite), "--results", str(results)])
    said = capsys.readouterr()
    if whole:
        assert code == 0
        assert told == [("scancel", "--quiet", "--signal=USR2", "7")]
        assert "2 cells cancelled (2 of them running" in said.out
    else:
        assert (code, told) == (3, [])
        assert "2 of 2 cells cannot be told" in said.err
        assert "Read-only file system" in said.err
        assert "Traceback" not in said.err
