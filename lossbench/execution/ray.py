"""Ray executor: cells as Ray tasks with fractions of GPUs, on a local or an existing cluster.

Ray finds the places and notices nodes that die; the one scheduler loop retries. A task runs the worker as a process of
its own, under a supervisor, and returns its exit code.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lossbench.errors import SetupError
from lossbench.execution import raytask
from lossbench.execution.base import Handle, Place, Request, cluster_place
from lossbench.execution.capacity import available_cores
from lossbench.execution.spec import (
    EXIT_CHECKPOINTED,
    EXIT_FAILED,
    EXIT_LOST,
    EXIT_OUT_OF_MEMORY,
    Spec,
    write_json,
)
from lossbench.execution.worker import describe_error

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
except ImportError as error:
    raise SetupError("running on Ray needs the package ray", hint="pip install 'lossbench[ray]'") from error

#: Cells that Ray has at a time, at the least: more than run at once, so that a cluster that grows by demand sees some.
_IN_FLIGHT = 64
#: Seconds for which what is known of the cluster's size is good.
_REFRESH_S = 10.0
#: Seconds in which a cluster's head must answer.
_CONNECT_S = 10.0
#: Bytes of Ray's object store on a cluster of our own. We put nothing there; this is the least Ray takes.
_OBJECT_STORE = 80 << 20
#: Present on nodes that an autoscaler started: there may be other kinds, which have not been needed yet.
_AUTOSCALED = "ray.io/node-group"


class RayHandle:
    """A task. The first cancellation asks its worker to checkpoint and leave, the second kills the worker, the third
    ends Ray's process as well."""

    def __init__(self, ref: ray.ObjectRef[int], run_dir: Path) -> None:
        self.ref, self._run_dir = ref, run_dir
        self._cancelled = 0
        self._begun = False
        self._log = _look(run_dir / "log.txt")

    def running(self) -> bool:
        """True from the first line in its log on."""
        self._begun = self._begun or _look(self._run_dir / "log.txt") != self._log
        return self._begun

    def poll(self) -> int | None:
        if not ray.wait([self.ref], timeout=0, fetch_local=False)[0]:
            return None
        try:
            code: int = ray.get(self.ref)
        except Exception as error:
            code = exit_code(error)
            if code == EXIT_FAILED:
                with suppress(OSError):
                    write_json(self._run_dir / "error.json", describe_error(_cause(error)))
        return code

    def stop(self) -> None:
        if self._cancelled < 1:
            self._cancel()

    def terminate(self) -> None:
        if self._cancelled < 2:
            self._cancel()

    def kill(self) -> None:
        self._cancel()

    def _cancel(self) -> None:
        self._cancelled += 1
        with suppress(Exception):  # it has ended meanwhile, or the cluster is gone: poll tells
            ray.cancel(self.ref, force=self._cancelled > 2)


class RayExecutor:
    """Runs workers on a Ray cluster.

    Args:
        address: of a cluster, or `auto` for the one this machine is part of. None: what RAY_ADDRESS says, else a
            cluster of this machine alone, which ends with this process.
        jobs: cells at a time, at the most.
        slots_per_device: cells that share a GPU when they do not say how much of it they take.

    Raises SetupError when there is no such cluster.
    """

    poll_s = 0.5

    def __init__(self, *, address: str | None = None, jobs: int | None = None, slots_per_device: int = 1) -> None:
        connect(address)
        self._jobs, self._share = jobs, 1 / slots_per_device
        self._environment = {
            key: value for key, value in os.environ.items() if key.startswith("LOSSBENCH_") or key == "PYTHONPATH"
        }
        # By value: where Ray's processes find lossbench need not be where the workers are to find it.
        ray.cloudpickle.register_pickle_by_value(raytask)  # type: ignore[no-untyped-call]
        self._task = ray.remote(raytask.run_worker)
        self._handles: list[RayHandle] = []
        self._reserved = 0
        self._seen = -_REFRESH_S
        self._nodes: list[dict[str, Any]] = []

    def refuses(self, request: Request) -> str | None:
        nodes = self._alive()
        return None if _autoscaled(nodes) else refusal(self._needs(request), [node["Resources"] for node in nodes])

    def reserve(self, request: Request) -> Place | None:
        """Always a place, for Ray has a queue of its own; but only so many."""
        cores = sum(node["Resources"].get("CPU", 0) for node in self._alive())
        if self._reserved >= (self._jobs or max(_IN_FLIGHT, 2 * int(cores))):
            return None
        self._reserved += 1
        return cluster_place(request)

    def release(self, place: Place) -> None:
        self._reserved -= 1

    def submit(self, specs: Sequence[tuple[Path, Request]]) -> list[Handle | Exception]:
        return [self._start(path.absolute(), request) for path, request in specs]

    def _start(self, spec: Path, request: Request) -> RayHandle | Exception:
        needs = self._needs(request)
        try:
            task = self._task.options(
                name=spec.parent.name,
                num_cpus=needs["CPU"],
                num_gpus=needs["GPU"],
                memory=needs["memory"],
                max_retries=0,
            )
            handle = RayHandle(task.remote(str(spec), os.getcwd(), self._environment), spec.parent)
        except Exception as error:  # Ray's are many
            return error
        self._handles.append(handle)
        return handle

    def adopt(self, spec: Spec, request: Request) -> None:
        """Never: Ray ends tasks when the process that submitted them does. Their workers checkpoint and leave."""

    def wait(self, seconds: float) -> None:
        """Return as soon as a worker has ended, at the latest after `seconds`."""
        refs = [handle.ref for handle in self._handles]
        if not refs:
            time.sleep(seconds)
            return
        ended = set(ray.wait(refs, timeout=seconds, fetch_local=False)[0])
        self._handles = [handle for handle in self._handles if handle.ref not in ended]

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        ray.shutdown()

    def _needs(self, request: Request) -> dict[str, float]:
        """What a cell takes of a node. One that does not say takes a core, and a GPU's share where there are GPUs."""
        usual = self._share if any(node["Resources"].get("GPU") for node in self._alive()) else 0
        return {
            "CPU": request.cpus or 1,
            "GPU": usual if request.gpus is None else request.gpus,
            "memory": int((request.memory_gb or 0) * 1e9),
        }

    def _alive(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._seen > _REFRESH_S:
            self._nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            self._seen = time.monotonic()
        return self._nodes


def connect(address: str | None) -> None:
    """Join a cluster, see RayExecutor, saying nothing on the terminal. Raises SetupError."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None and "RAY_ADDRESS" not in os.environ:
            os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")  # it would kill Ray's process, not the worker
            ray.init(
                "local",
                num_cpus=available_cores(),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                **options,
            )
        else:
            _reach(address or os.environ["RAY_ADDRESS"])
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "this machine"
        hint = "is the address right? A cluster with tokens also needs RAY_AUTH_MODE=token here, see docs/ray.md"
        raise SetupError(f"no Ray on {where}: {_first_line(error)}", hint=hint) from error


def _reach(address: str) -> None:
    """Raises OSError when nothing listens at HOST:PORT: Ray would try for minutes, and say so on the terminal."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()


def refusal(needs: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> str | None:
    """Why no node can ever run something with these needs; None when one can."""
    nodes = list(nodes)
    if any(all(node.get(key, 0) >= need for key, need in needs.items()) for node in nodes):
        return None
    most = {key: max((node.get(key, 0) for node in nodes), default=0) for key in needs}
    lacking = [key for key in needs if needs[key] > most[key]]
    if not lacking:
        return f"asks for {', '.join(_amount(key, need) for key, need in needs.items() if need)}: no node has them all"
    return "; ".join(
        f"asks for {_amount(key, needs[key])}, no node has more than {_amount(key, most[key])}" for key in lacking
    )


def _amount(key: str, value: float) -> str:
    if key == "memory":
        return f"{value / 1e9:.3g} GB of memory"
    return f"{value:g} {'GPU' if key == 'GPU' else 'CPU core'}{'' if value == 1 else 's'}"


def _autoscaled(nodes: Iterable[Mapping[str, Any]]) -> bool:
    return any(_AUTOSCALED in node.get("Labels", {}) for node in nodes)


def exit_code(error: Exception) -> int:
    """What Ray's error says about a worker."""
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return EXIT_OUT_OF_MEMORY
    if isinstance(error, ray.exceptions.TaskCancelledError):  # before its worker began
        return EXIT_CHECKPOINTED
    broken = (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError, ray.exceptions.TaskUnschedulableError)
    return EXIT_FAILED if isinstance(error, broken) else EXIT_LOST


def _cause(error: Exception) -> BaseException:
    return getattr(error, "cause", None) or error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _look(path: Path) -> tuple[int, int] | None:
    """Changes when the file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
