"""How often the kernel has killed for want of memory around here: what tells such a death from any other SIGKILL."""

from __future__ import annotations

from pathlib import Path

_MACHINE = Path("/proc/vmstat")


def oom_kills(process: Path = Path("/proc/self"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Of this process's own control group, which the processes it starts share; of the whole machine where groups
    do not tell: there another's death may be taken for ours."""
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
        if file is not None and (count := _count(file)) is not None:
            return count
    return machine_oom_kills()


def machine_oom_kills() -> int:
    """Of the whole machine, in whatever group; 0 where it does not tell."""
    return _count(_MACHINE) or 0


def _count(file: Path) -> int | None:
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
