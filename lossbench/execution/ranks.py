"""A cell on several devices: the worker is rank 0, starts a process for each other device, and watches them.

Those are new processes, `python -m lossbench.execution.ranks FOLDER RANK`, not forks: by now the worker may have run
threads or touched a device, which no fork survives. They import torch anew while the worker builds its own network,
which costs such a cell the seconds that the forked worker saves. They are of the worker's process group, so whoever
kills that ends them too, and they leave as soon as the worker is gone (end of their standard input).

A rank that dies leaves the others waiting inside a collective, NCCL for minutes. So the worker takes any such death as
its own, with the dead rank's reason as the reason.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lossbench.errors import LossbenchError
from lossbench.execution.oom import oom_kills
from lossbench.execution.spec import EXIT_FAILED, EXIT_LOST, EXIT_OUT_OF_MEMORY, Spec, write_json
from lossbench.execution.worker import describe_error, is_out_of_memory
from lossbench.training.ranks import ALONE, Ranks

#: Seconds from a rank's death until all that die with it have died, and until the worker must have noticed by itself.
SETTLE_S, LEAVE_S = 0.5, 5.0
#: Seconds between looks at how many processes the kernel has killed for want of memory.
OOM_S = 1.0
#: Seconds a rank that failed leaves for the news of its worker's end.
CLEAN_S = 0.2
#: Seconds ranks have to leave after the last word.
END_S = 30.0
#: Signals that a rank ignores: whether to stop is rank 0's word, and killing is for its process group.
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class RankFailed(LossbenchError):
    """Another rank failed, for a reason of the cell's."""


class RankLost(LossbenchError):
    """Another rank was killed. `worker_exit`: the worker's exit code, which says that it may be tried again."""

    worker_exit = EXIT_LOST


@contextlib.contextmanager
def team(spec: Spec) -> Iterator[Ranks]:
    """The ranks that share the cell of a spec, this process as the first; of one device, nobody else.

    Raises:
        RankFailed, RankLost, MemoryError: another rank died, whatever that made this one raise.
    """
    if len(spec.devices) == 1:
        yield ALONE
        return
    from lossbench.execution.hardware import require_device
    from lossbench.training.distributed import Group

    others = _Others(spec)
    try:
        group = Group(
            others.folder, rank=0, world=len(spec.devices), device=require_device(spec.device), on_over=others.let_go
        )
        yield group
        others.let_go()
        with contextlib.suppress(Exception):  # what the cell came to is in hand
            group.close()
        others.see_off()
    except BaseException as error:
        reason = others.reason(error)
        if reason is not None:
            raise reason from error
        raise
    finally:
        others.end()


class _Others:
    """The processes of ranks 1, 2, ..., as the worker sees them.

    Attributes:
        folder: private to this user; holds the rendezvous, the spec, and why a rank failed.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._starved: set[int] = set()
        self.folder = Path(tempfile.mkdtemp(prefix="lossbench-"))
        # Without the hashes of the code: a rank takes those of the files that it imports itself.
        write_json(self.folder / "spec.json", asdict(replace(spec, code={})))
        self._died = threading.Event()
        self._over = threading.Event()
        command = [sys.executable, "-m", "lossbench.execution.ranks", str(self.folder)]
        ranks = range(1, len(spec.devices))
        self._processes = {rank: _start([*command, str(rank)]) for rank in ranks}
        for rank in ranks:
            threading.Thread(target=self._watch, args=(rank,), daemon=True).start()

    def _watch(self, rank: int) -> None:
        """Wait for a rank to end; if the cell is not over by then, it is now."""
        code = None
        while code is None:
            kills = oom_kills()  # of the whole machine: only those of its last moments may be its own
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._processes[rank].wait(OOM_S)
        if code == -signal.SIGKILL and oom_kills() > kills:
            self._starved.add(rank)
        if code == 0 or self._died.is_set() or self._over.is_set():
            return
        self._died.set()
        if self._over.wait(LEAVE_S):
            return
        # This process hangs in a collective, where no exception reaches it.
        error = self._death()
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # a full disk
            write_json(self._spec.run_dir / "error.json", describe_error(error))
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(EXIT_OUT_OF_MEMORY if is_out_of_memory(error) else getattr(error, "worker_exit", EXIT_FAILED))

    def reason(self, error: BaseException) -> BaseException | None:
        """The death of another rank, if that is why this one raised `error`; None when the fault is its own: a lost
        connection is a RuntimeError."""
        if not isinstance(error, RuntimeError) or is_out_of_memory(error) or self._over.is_set():
            return None
        return self._death() if self._died.wait(2 * SETTLE_S) else None

    def _death(self) -> BaseException:
        """What the first rank that died died of: the others lost their connection to it."""
        time.sleep(SETTLE_S)
        codes = {rank: code for rank, process in self._processes.items() if (code := process.poll())}
        reports = {rank: report for rank in codes if (report := self._report(rank)) is not None}
        silent = [rank for rank in codes if rank not in reports]
        rank = silent[0] if silent else min(reports, key=lambda rank: float(reports[rank]["when"]))
        who = f"the process of device {rank + 1} of {len(self._spec.devices)} ({self._spec.devices[rank]})"
        if rank in reports:
            report = reports[rank]
            if report["kind"] == "OutOfMemory":
                return MemoryError(f"{who}: {report['message']}")
            failed = RankFailed(f"{who}: {report['message']}", hint=report["hint"])
            failed.exit_code = int(report["exit_code"])
            return failed
        code = codes[rank]
        if rank in self._starved:
            return MemoryError(f"{who} was ended by the system")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return RankLost(f"{who} {how}", hint="its last words, if any, are in log.txt in the run folder")

    def _report(self, rank: int) -> dict[str, Any] | None:
        try:
            report: dict[str, Any] = json.loads((self.folder / f"rank{rank}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return report

    def let_go(self) -> None:
        """After the last word: what becomes of them now changes nothing any more."""
        self._over.set()

    def see_off(self) -> None:
        """Wait for them to leave."""
        deadline = time.monotonic() + END_S
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))

    def end(self) -> None:
        """Leave nothing behind."""
        self._over.set()
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill(self) -> None:
        for process in self._processes.values():
            process.kill()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a rank, with the signals blocked that it is going to ignore: a cluster sends them to all processes of a
    job, also to one that is still importing. This process hears its own meanwhile: afterwards, or by other threads."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED)
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(folder: Path, rank: int) -> int:
    """Run as rank `rank` (1, 2, ...) of the cell whose spec lies in `folder`; the exit code."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)  # see `_start`
    faulthandler.enable()
    threading.Thread(target=_follow_worker, args=(folder,), daemon=True).start()
    try:
        from lossbench.execution.cellrun import CellRun
        from lossbench.execution.hardware import require_device
        from lossbench.training.distributed import Group

        spec = Spec.read(folder / "spec.json")
        group = Group(folder, rank=rank, world=len(spec.devices), device=require_device(spec.devices[rank]))
        CellRun(spec, ranks=group).run()
    except BaseException as error:
        traceback.print_exc()
        write_json(folder / f"rank{rank}.json", describe_error(error))
        time.sleep(CLEAN_S)  # if the worker's end is why, `_follow_worker` cleans up
        return EXIT_FAILED
    with contextlib.suppress(Exception):  # nothing is left to be lost
        group.close()
    return 0


def _follow_worker(folder: Path) -> None:
    """When the worker is gone, there is nobody left to train with, or to clean up."""
    while os.read(0, 1):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # daemon threads and NCCL's make an orderly end a risk
