"""How everything here is measured.

Candidates of a table run interleaved in random order within one process, because absolute times drift by a factor of
two on a shared machine. A ratio is taken between neighbours of one round, and reported as the median over the rounds
with its quartiles. Memory is a fresh process's peak over what was resident before.
"""

from __future__ import annotations

import importlib
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from lossbench import measuring
from lossbench.measuring import Spread as Spread
from lossbench.measuring import Work as Work
from lossbench.measuring import interleave as interleave

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Options:
    """What the command line chose. `quick`: smaller inputs, to see that everything runs."""

    rounds: int = 9
    threads: int = 2
    device: str = "cpu"
    quick: bool = False


@dataclass
class Row:
    """One candidate. `ratio` is to the table's baseline; `target` is the largest (if `at_least`: smallest) ratio that
    counts as met, `target_ms` the most milliseconds instead. `extra` holds further columns by their titles."""

    name: str
    ms: Spread | None = None
    ratio: Spread | None = None
    peer: bool = False
    target: float | None = None
    at_least: bool = False
    target_ms: float | None = None
    extra: dict[str, float | str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met by the median; None without a target or a figure."""
        if self.target_ms is not None and self.ms is not None:
            return self.ms.median <= self.target_ms
        if self.target is None or self.ratio is None:
            return None
        return self.ratio.median >= self.target if self.at_least else self.ratio.median <= self.target


@dataclass
class Table:
    """`title` says what was run on which input; `note` what a reader must know to repeat or believe it."""

    title: str
    baseline: str
    rows: list[Row]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"met": row.met} for row in self.rows]
        return {"title": self.title, "baseline": self.baseline, "note": self.note, "rows": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Table:
        rows = []
        for stored in data["rows"]:
            row = {key: value for key, value in stored.items() if key != "met"}
            for key in ("ms", "ratio"):
                row[key] = row[key] and Spread(**row[key])
            rows.append(Row(**row))
        return cls(data["title"], data["baseline"], rows, data["note"])


def processes(commands: Mapping[str, list[str]], *, rounds: int) -> dict[str, Spread]:
    """Wall milliseconds of whole processes, interleaved, after one uncounted run of each.

    Raises:
        RuntimeError: a command failed; its output is the message.
    """
    order, random_order = list(commands), random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in order}
    for turn in range(rounds + 1):
        random_order.shuffle(order)
        for name in order:
            started = time.perf_counter()
            done = subprocess.run(commands[name], capture_output=True, text=True, cwd=ROOT, env=environment())
            if done.returncode:
                raise RuntimeError(f"{' '.join(commands[name])}: exit code {done.returncode}\n{done.stderr}")
            if turn:
                times[name].append((time.perf_counter() - started) * 1000)
    return {name: Spread.of(values) for name, values in times.items()}


def peak_bytes(module: str, function: str, *arguments: str, threads: int = 2) -> int:
    """`lossbench.measuring.peak_bytes`, with this checkout importable."""
    return measuring.peak_bytes(module, function, *arguments, threads=threads, environment=environment())


def environment() -> dict[str, str]:
    """This process's environment, with this checkout importable."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return dict(os.environ) | {"PYTHONPATH": path}


def optional(name: str) -> ModuleType | None:
    """An optional peer, or None with a line on stderr that says what is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(f"skipped: {name} ({error}); pip install 'lossbench[bench]'", file=sys.stderr)
        return None


def host() -> dict[str, Any]:
    """Hardware and versions, for the head of a report."""
    import numpy
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    facts: dict[str, Any] = {
        "cpu": f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": platform.platform(),
    }
    return facts
