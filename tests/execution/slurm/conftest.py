"""One real Slurm for all tests of this folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.slurm.cluster import Cluster, missing
from tests.execution.slurm.work import Work


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Started when the first test asks for it."""
    why = missing()
    if why:
        pytest.skip(why)
    # Not pytest's own folder: the names of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        started = Cluster(Path(folder))
        try:
            started.start()
            yield started
        finally:
            started.stop()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slurm-cache")


@pytest.fixture
def work(cluster: Cluster, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """A folder to run cells in. What a failed test left in the queue is taken out."""
    path = os.pathsep.join([str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")])
    variables = {
        **cluster.environment,
        "PYTHONPATH": path,
        "LOSSBENCH_CACHE": str(cache),
        "LOSSBENCH_DATA": str(tmp_path),
        "LOSSBENCH_SLURM_POLL_S": "0.3",
        "COLUMNS": "120",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield Work(cluster, tmp_path)
    cluster.run("scancel", "--quiet", "--user=root")
