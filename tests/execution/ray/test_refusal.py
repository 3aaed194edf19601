"""What a cluster can never run, and what Ray's errors mean: decided without one."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

import ray

from lossbench.execution.ray import exit_code, refusal
from lossbench.execution.spec import EXIT_CHECKPOINTED, EXIT_FAILED, EXIT_LOST, EXIT_OUT_OF_MEMORY

pytestmark = pytest.mark.ray

NODES = [{"CPU": 4.0, "GPU": 2.0, "memory": 16e9}, {"CPU": 32.0, "memory": 64e9}]


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        ({"CPU": 4, "GPU": 2, "memory": 0}, None),
        ({"CPU": 32, "GPU": 0, "memory": 64e9}, None),
        ({"CPU": 1, "GPU": 4, "memory": 0}, "asks for 4 GPUs, no node has more than 2 GPUs"),
        ({"CPU": 33, "GPU": 0, "memory": 0}, "asks for 33 CPU cores, no node has more than 32 CPU cores"),
        ({"CPU": 1, "GPU": 0, "memory": 65e9}, "asks for 65 GB of memory, no node has more than 64 GB of memory"),
        ({"CPU": 8, "GPU": 0.5, "memory": 0}, "asks for 8 CPU cores, 0.5 GPUs: no node has them all"),
    ],
)
def test_refused_is_what_no_single_node_has(needs: dict[str, float], why: str | None) -> None:
    assert refusal(needs, NODES) == why


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ray.exceptions.WorkerCrashedError(), EXIT_LOST),
        (ray.exceptions.NodeDiedError("gone"), EXIT_LOST),
        (ray.exceptions.ObjectLostError("00", None, ""), EXIT_LOST),
        (ray.exceptions.OutOfMemoryError("too much"), EXIT_OUT_OF_MEMORY),
        (ray.exceptions.TaskCancelledError(), EXIT_CHECKPOINTED),
        (ray.exceptions.RayTaskError("run_worker", "", ValueError("ours")), EXIT_FAILED),
    ],
)
def test_what_rays_errors_say_about_a_worker(error: Exception, code: int) -> None:
    assert exit_code(error) == code
