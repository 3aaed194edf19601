"""Site files: defaults of a place, below what a suite says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.errors import ConfigError
from lossbench.sitefile import read_site, resources_at
from lossbench.suite import load_suite

SUITE = """\
datasets: [streets]
backbones: [fcn_timm]
losses: [ce, focal]
resources: {cpus: 2, slurm_partition: short}
overrides:
  - {match: "*/focal/*", resources: {slurm_qos: high, gpus: 1}}
"""


def test_the_suite_and_its_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "site.yaml").write_text("resources: {cpus: 8, minutes: 60, slurm_account: me, slurm_partition: long}\n")
    suite = load_suite(tmp_path / "suite.yaml")
    resources_of = resources_at(suite, read_site(tmp_path / "site.yaml"))
    ce, focal = (resources_of(cell) for cell in suite.cells())
    assert (ce.cpus, ce.minutes, ce.gpus) == (2, 60, None)
    assert ce.slurm() == {"partition": "short", "account": "me"}
    assert focal.gpus == 1
    assert focal.slurm() == {"partition": "short", "account": "me", "qos": "high"}


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("resources:\n  slurm_partion: a\n", 2, "unknown key 'slurm_partion' in resources", "did you mean"),
        ("slurm_partition: a\n", 1, "unknown key 'slurm_partition'", "known keys: resources"),
        ("resources: {slurm_time: 2h}\n", 1, "resources.slurm_time: must be an integer", None),
        ("resources: {slurm_setup: module load}\n", 1, "resources.slurm_setup: must be a list", "[module load]"),
        ("- a\n", 1, "a site file is a mapping of keys", "resources:"),
    ],
)
def test_mistakes_are_told_with_their_line(
    tmp_path: Path, text: str, line: int, message: str, hint: str | None
) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_site(file)
    assert f"site.yaml:{line}: {message}" in caught.value.message + str(caught.value.hint)
    if hint:
        assert hint in caught.value.message + str(caught.value.hint)
