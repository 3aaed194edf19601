"""Work on many files shared among processes, where there are many files and cores."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

#: What an answer of such a process begins with.
_ANSWER = b"lossbench records\n"


def spread(target: str, first: Any, paths: Sequence[str], share: int) -> list[Any]:
    """`target(first, part)` for consecutive parts of the paths, in their order.

    Args:
        target: `module:function`; its arguments and answers can be pickled.
        share: paths that keep a process busy for some times what it takes to start.
    """
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 16)
    workers = min(workers, len(paths) // share)
    if workers < 2 or not sys.executable:
        return [_call(target, first, paths)]
    size = -(-len(paths) // workers)
    shares = [paths[start : start + size] for start in range(0, len(paths), size)]
    with ThreadPoolExecutor(len(shares)) as pool:
        return list(pool.map(lambda part: _elsewhere(target, first, part), shares))


def _call(target: str, first: Any, paths: Sequence[str]) -> Any:
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)(first, paths)


def _elsewhere(target: str, first: Any, paths: Sequence[str]) -> Any:
    """`_call` in a process of its own. A fresh interpreter, not a fork: the caller may hold torch and its threads."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        # -P: nothing is imported from the current directory, which is the user's.
        [sys.executable, "-P", "-c", "from lossbench.spread import serve; serve()"],
        input=pickle.dumps((target, first, paths)),
        stdout=subprocess.PIPE,
        env=environment,
    )
    if done.returncode or not done.stdout.startswith(_ANSWER):  # killed, or something else spoke: do it here
        return _call(target, first, paths)
    return pickle.loads(done.stdout[len(_ANSWER) :])


def serve() -> None:
    """Answer one request of `_elsewhere`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a Ctrl-C is for the caller to tell of
    target, first, paths = pickle.load(sys.stdin.buffer)
    answer = _call(target, first, paths)
    sys.stdout.buffer.write(_ANSWER)
    pickle.dump(answer, sys.stdout.buffer, protocol=5)
