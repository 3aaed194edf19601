"""A Ray cluster of two nodes on this machine, each with a logical GPU: room for two cells and for one."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
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

NODE = {"num_gpus": 1, "object_store_memory": 80 << 20}


class TwoNodes:
    """`address` of the head; `second()` is there, `lose()` takes it away as a power cut would."""

    def __init__(self, folder: str) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "num_cpus": 2, "temp_dir": folder, "include_dashboard": False}
        )
        self._second: Any = None
        self.address: str = self._cluster.address

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
    nodes = TwoNodes(folder)
    yield nodes
    nodes.shutdown()
    time.sleep(0.5)  # what it started writes its last lines
    shutil.rmtree(folder, ignore_errors=True)
