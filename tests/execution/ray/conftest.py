"""A Ray cluster of two nodes on this machine, each with a logical GPU: room for two cells and for one."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# Ray reads these when it is imported. Without a token anybody on the network may run code on a cluster; and without one
# of our own it would write one to the user's home.
os.environ.pop("RAY_ADDRESS", None)
os.environ.update(
    RAY_AUTH_MODE="token",
    RAY_AUTH_TOKEN=secrets.token_hex(32),
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_register_timeout_seconds="600",  # on a busy machine it would start them anew for ever
)

#: Its agent finds itself a port: the usual one may be another cluster's.
NODE = {"num_gpus": 1, "object_store_memory": 80 << 20, "dashboard_agent_listen_port": 0}
#: Seconds for a test, and for the cluster to come up: far more than they take, for the machine may be busy.
PATIENCE_S = 300.0


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Fail what takes for ever, wherever it waits: Ray is asked to wait at many places, and none of them times out."""

    def late(number: int, frame: object) -> None:
        pytest.fail(f"{what} took more than {PATIENCE_S:g} s")  # no Exception, so nobody on the way suppresses it

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TwoNodes:
    """`address` of the head; `second()` is there, `lose()` takes it away as a power cut would."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._second: Any = None

    def start(self) -> None:
        self._cluster.add_node(**NODE, num_cpus=2, include_dashboard=False)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def second(self) -> None:
        if self._second is None:
            self._second = self._cluster.add_node(**NODE, num_cpus=1)

    def lose(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = None

    def shutdown(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="session")
def nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    folder = tempfile.mkdtemp(prefix="ray")  # not pytest's: paths of sockets must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)  # also the file in which Ray notes the machine's current cluster
        nodes = TwoNodes()
        try:
            with bounded("starting the cluster"):
                nodes.start()
            yield nodes
        finally:
            with bounded("ending the cluster"):
                nodes.shutdown()
            time.sleep(0.5)  # what it started writes its last lines
            shutil.rmtree(folder, ignore_errors=True)
