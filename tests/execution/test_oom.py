"""The count of the kernel's kills: of our own control group, of either version."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.execution import oom


@pytest.mark.parametrize(
    ("cgroup", "file", "text"),
    [
        ("5:cpu,cpuacct:/a\n4:memory:/slurm/job_7\n0::/\n", "memory/slurm/job_7/memory.oom_control", "under_oom 0\n"),
        ("0::/system.slice/slurmstepd.scope/job_7\n", "system.slice/slurmstepd.scope/job_7/memory.events", "oom 5\n"),
    ],
)
def test_of_our_own_group(tmp_path: Path, cgroup: str, file: str, text: str) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    events = tmp_path / "groups" / file
    events.parent.mkdir(parents=True)
    events.write_text(text + "oom_kill 3\noom_group_kill 9\n")
    assert oom.oom_kills(tmp_path, tmp_path / "groups") == 3


def test_of_the_machine_where_groups_do_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 8\n")
    monkeypatch.setattr(oom, "_MACHINE", tmp_path / "vmstat")
    assert oom.oom_kills(tmp_path, tmp_path) == 8
    (tmp_path / "cgroup").write_text("0::/\n")
    assert oom.oom_kills(tmp_path, tmp_path) == 8
