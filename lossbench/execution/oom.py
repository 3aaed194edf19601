"""How often the kernel has killed for want of memory around here: what tells such a death from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path

_MACHINE = Path("/proc/vmstat")


def oom_kills() -> int:
    """Of this process's own control group, which the processes it starts share; see `counter`."""
    return kills(counter())


def counter(process: Path = Path("/proc/self"), groups: Path = Path("/sys/fs/cgroup")) -> Path:
    """The file that counts the kills in a process's control group; the machine's where groups do not tell: there
    another's death may be taken for this one's."""
    try:
        lines = (process / "cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    for line in lines:  # `4:memory:/path` (version 1), `0::/path` (version 2)
        number, controllers, path = line.split(":", 2)
        file = None
        if "memory" in controllers.split(","):
            file = groups / "memory" / path.lstrip("/") / "memory.oom_control"
        elif number == "0" and not controllers:
            file = groups / path.lstrip("/") / "memory.events"
        if file is not None and _count(file) is not None:
            return file
    return _MACHINE


def kills(file: Path) -> int:
    """The count in a file of `counter`; 0 where it tells none."""
    return _count(file) or 0


def _count(file: Path) -> int | None:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
