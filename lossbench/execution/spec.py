"""What a worker is told: plain JSON, never a pickled closure, so that any executor can carry it to any machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lossbench.cells import Cell

#: Exit codes of a worker: its word is a hint, the record in the store is the truth.
EXIT_DONE = 0
EXIT_FAILED = 1
#: Its folder cannot be written, not even to say so: a full or a read-only disk (os.EX_IOERR).
EXIT_UNWRITABLE = 74
#: Checkpointed, wants to go on (os.EX_TEMPFAIL).
EXIT_CHECKPOINTED = 75
#: Another process holds this cell.
EXIT_BUSY = 76
#: The device's or the machine's memory did not suffice.
EXIT_OUT_OF_MEMORY = 77
#: It was taken out of a cluster's queue, or asked to leave, by somebody else than its scheduler.
EXIT_CANCELLED = 78
#: The worker is gone and nobody knows why: a machine that went away, a fork server that died.
EXIT_LOST = 255
#: The newest checkpoint of a cell in its run folder, and the one before.
CHECKPOINTS = ("checkpoint.pt", "checkpoint.prev.pt")
#: Images whose predictions a run keeps for figures, if not told otherwise.
KEEP_IMAGES = 4
#: Set in the environment of the fork server, and of no process else.
FORK_SERVER = "LOSSBENCH_FORK_SERVER"


@dataclass(frozen=True)
class Spec:
    """One cell and the circumstances of running it, none of which may change its result.

    Attributes:
        cell: `Cell.to_json()`.
        cell_id: its id, so that nobody has to compute it to find the folder.
        results: the results folder (records and runs lie in it).
        plugins: the user's own plugin files.
        devices: "cpu", "cuda:0", "mps", or "auto": what the worker finds where it runs. Several: one process each.
        threads: CPU threads of this worker, shared by its processes.
        memory_gb: main memory it may take; None: no limit but the machine's.
        split: into how many parts each micro-batch is split, after it did not fit into memory (same effective batch).
        checkpoint_every_s: seconds between checkpoints.
        keep: what to leave in the run folder afterwards: "predictions" (of every image), "weights".
        keep_images: of how many fixed images the predictions stay in the run folder in any case, for figures.
    """

    cell: dict[str, Any]
    cell_id: str
    results: Path
    data_root: Path
    cache_root: Path
    plugins: tuple[Path, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1
    memory_gb: float | None = None
    split: int = 1
    checkpoint_every_s: float = 60.0
    keep: tuple[str, ...] = ()
    keep_images: int = KEEP_IMAGES
    suite: str = ""
    command: str = ""
    #: `provenance.code_hash` of each plugin, taken before the fork server imported them.
    code: dict[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """The first of its devices."""
        return self.devices[0]

    @property
    def run_dir(self) -> Path:
        return self.results / "runs" / self.cell_id

    def parse_cell(self) -> Cell:
        return Cell.from_json(self.cell)

    def write(self) -> Path:
        """Write it into the run folder (atomically: two schedulers may do so at once) and return the file."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        path = self.run_dir / "spec.json"
        write_json(path, asdict(self))
        return path

    @classmethod
    def read(cls, path: Path) -> Spec:
        data = json.loads(path.read_text(encoding="utf-8"))
        for key in ("results", "data_root", "cache_root"):
            data[key] = Path(data[key])
        data["plugins"] = tuple(Path(p) for p in data["plugins"])
        data["keep"] = tuple(data["keep"])
        data["devices"] = tuple(data["devices"])
        return cls(**data)


def failure(kind: str, message: str, hint: str | None = None, exit_code: int = 1) -> dict[str, Any]:
    """What error.json holds: shown by the scheduler and by `lossbench status`."""
    return {"kind": kind, "message": message, "hint": hint, "exit_code": exit_code, "when": time.time()}


def timeout(minutes: float) -> dict[str, Any]:
    """The failure of a cell that ran past its limit."""
    message = f"ran past its limit of {minutes:g} minutes; its checkpoint is kept"
    return failure("Timeout", message, "raise resources.minutes and run again: it resumes")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Atomic small JSON file."""
    # Not by the process's number alone: on a shared folder another machine has one of that number, too.
    temporary = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(json.dumps(data, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
