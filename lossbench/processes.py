"""Which process on which machine: what files on a shared folder say of who wrote them, and whether it still lives."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Set: the name by which this machine is known in claims, instead of its own. Processes of different names take each
#: other to be on different machines.
HOST_VARIABLE = "LOSSBENCH_HOST"


@dataclass(frozen=True)
class Process:
    """A process, told from every other one that ever ran.

    Attributes:
        host: the machine's name, for people.
        boot: changes with every start of the machine, and from container to container; empty where none is told.
        pid: its number, which means something only where host and boot are equal.
        started: when it started, as that machine counts; empty where it is not told.
    """

    host: str
    boot: str
    pid: int
    started: str

    def is_here(self) -> bool:
        """Whether it runs, or ran, where its number can be looked up by this process."""
        host, boot = machine()
        return bool(boot) and (self.host, self.boot) == (host, boot)

    def lives(self) -> bool | None:
        """True or False when that is certain; None when it cannot be told from here."""
        if not self.is_here():
            return None
        started = _started(self.pid)
        if started is None:
            return False
        return started == self.started if started and self.started else None


def this_process() -> Process:
    return Process(*machine(), os.getpid(), _started(os.getpid()) or "")


def kill_group(leader: int) -> None:
    """End a process that leads a group, and everything it started in that group. Nothing when they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def machine() -> tuple[str, str]:
    """(host, boot) of this machine."""
    boot, name = _boot(), os.environ.get(HOST_VARIABLE, "")
    return (name, f"{boot} {name}" if boot else "") if name else (platform.node() or "unknown", boot)


@cache
def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # two containers count their processes each
    except OSError:
        pass
    if sys.platform != "darwin":
        return ""
    try:
        done = subprocess.run(["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def _started(pid: int) -> str | None:
    """When a process of this machine started; empty when it lives and nobody tells; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        if Path("/proc/self/stat").exists():
            return None
        return "" if _exists(pid) else None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]  # field 22, of which the name in brackets is the second


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
