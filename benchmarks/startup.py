"""From the shell's prompt to the answer: wall time of whole processes, against an interpreter and an eager CLI."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.leaderboard import generate
from benchmarks.measure import Options, Row, Spread, Table, optional, processes

SMALL = 36
VERBS = {"--version": 250, "--help": 250, "list losses": 250, "list backbones": 250, "leaderboard": 300}
#: What a command line pays that imports what it may need.
EAGER = ("torch", "torchvision", "segmentation_models_pytorch", "typer")


def run(options: Options) -> list[Table]:
    rounds = max(options.rounds, 7) if not options.quick else 2
    with tempfile.TemporaryDirectory(prefix="lossbench_bench_") as folder:
        results = str(Path(folder, "results"))
        generate(Path(results), SMALL)
        commands = {"python -c pass": [sys.executable, "-c", "pass"]}
        for verb in VERBS:
            more = ["--results", results] if verb == "leaderboard" else []
            commands[f"lossbench {verb}"] = [sys.executable, "-m", "lossbench", *verb.split(), *more]
        found = processes(commands, rounds=rounds)
        slow = {"import torch": [sys.executable, "-c", "import torch"]}
        if all(optional(name) is not None for name in EAGER):
            slow["an eager CLI"] = [sys.executable, "-c", f"import {', '.join(EAGER)}"]
        found |= processes(slow, rounds=2 if options.quick else 7)
    rows = [_row(name, spread) for name, spread in found.items()]
    note = f"wall time of a process, files in the disk's cache; the leaderboard is of {SMALL} records"
    return [Table("Start-up", "", rows, note)]


def _row(name: str, spread: Spread) -> Row:
    target = VERBS.get(name.removeprefix("lossbench "))
    return Row(name, spread, peer=target is None, target_ms=target)
