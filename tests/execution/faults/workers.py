"""Real cells with losses that do harm at a step of one's choice, and real workers for them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from lossbench.cells import Cell
from lossbench.execution.spec import Spec
from lossbench.execution.worker import forked_main
from tests.execution.cellfactory import make_cell

PLUGIN = '''\
import ctypes, os, shutil, signal, subprocess, sys, time
from pathlib import Path
import torch
from lossbench.registry import register_loss


@register_loss("{name}")
class Loss(torch.nn.Module):
    """Cross entropy that does something else, too."""

    def __init__(self, *, ignore_index: int = 255):
        super().__init__()
        self.call = 0

    def forward(self, logits, target):
        call, self.call = self.call, self.call + 1
        {body}
        return torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=255)
'''


#: Of harmful cells: enough to do harm in the middle.
SHORT = {"iterations": 4}


def write_loss(folder: Path, name: str, body: str) -> Path:
    """A plugin file with a loss of that name; `body` runs at each call, `call` counts them from 0 in each process."""
    path = folder / f"{name}.py"
    path.write_text(PLUGIN.format(name=name, body=body.replace("\n", "\n        ")))
    return path


def harmful_cell(folder: Path, name: str, body: str, **changes: Any) -> tuple[Cell, Path]:
    plugin = write_loss(folder, name, body)
    return make_cell(name, plugins=(plugin,), **{"protocol": SHORT, **changes}), plugin


def run_worker(spec: Spec) -> int:
    """The exit code of a worker that runs a spec: a fork of this process, as the fork server would make it."""
    return run_file(spec.write())


def run_file(spec: Path) -> int:
    process = multiprocessing.get_context("fork").Process(target=_main, args=(str(spec),))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _main(spec: str) -> None:
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # not those of pytest
    forked_main(spec)


def log_of(spec: Spec) -> str:
    return (spec.run_dir / "log.txt").read_text(errors="replace")
