"""`lossbench run`: the main job."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossbench.cli.common import (
    DEFAULT_RESULTS,
    DataRootOption,
    PluginOption,
    ResultsOption,
    SuiteArgument,
    choose,
    open_store,
    stderr,
    stdout,
    warn,
)
from lossbench.execution.spec import KEEP_IMAGES

if TYPE_CHECKING:
    from lossbench.cells import Cell
    from lossbench.execution.base import Job, Outcome, Request
    from lossbench.execution.suite_run import ObserverContext, RunOptions
    from lossbench.history import StoreHistory
    from lossbench.store import Store
    from lossbench.suite import Suite
    from lossbench.tracking.sender import Sender
    from lossbench.tuning.search import CellScore, Known

KEEPABLE = ("predictions", "weights")
EXECUTORS = ("local", "slurm", "ray")


def run(
    suite: SuiteArgument,
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", min=1, help="Cells at a time. Default: one a GPU, or one a CPU core."),
    ] = None,
    devices: Annotated[str, typer.Option(help="auto, cpu, mps, or CUDA indices such as 0,2.")] = "auto",
    slots_per_device: Annotated[
        int, typer.Option(min=1, help="Cells that share a GPU, where a suite does not say how much of it they take.")
    ] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of each worker. Default: the cores shared out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    rerun_stale: Annotated[
        bool,
        typer.Option("--rerun-stale", help="Also cells whose record other code or other data made; it is set aside."),
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="WHAT", help="Leave predictions or weights in each run folder. May be repeated."),
    ] = None,
    keep_images: Annotated[
        int, typer.Option(min=0, help="Validation images whose predictions stay, for `figure panels`.")
    ] = KEEP_IMAGES,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 60.0,
    executor: Annotated[str, typer.Option(metavar="WHERE", help="local, slurm or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, e.g. auto. Default: one of this machine alone.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML with `resources` of the place, e.g. slurm_partition.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit to Slurm and leave; `lossbench status` shows how far it is.")
    ] = False,
) -> None:
    """Run every cell of a suite that has no record yet, then print the leaderboard.

    Safe to stop (Ctrl-C) and to run again at any time: finished cells are kept, others go on where they were.

    \b
    Example:
      lossbench run suites/quickstart.yaml
      lossbench run suites/quickstart.yaml --executor slurm --detach
    """
    if dry_run:
        from lossbench.cli.plan import plan

        plan(suite=suite, results=results, plugin=plugin)
        return
    from lossbench.data.drift import DataDrift
    from lossbench.data.roots import cache_root
    from lossbench.data.roots import data_root as find_data_root
    from lossbench.execution import devices as device_names
    from lossbench.execution.executors import check_options
    from lossbench.execution.suite_run import RunOptions, exit_code
    from lossbench.history import StoreHistory
    from lossbench.suite import load_suite

    for what in keep or ():
        choose(what, KEEPABLE, "thing to keep")
    choose(executor, EXECUTORS, "executor")
    given = {
        "--address": address is not None,
        "--detach": detach,
        "--devices": devices != "auto",
        "--slots-per-device": slots_per_device != 1,
        "--threads": threads is not None,
    }
    check_options(executor, [option for option, is_given in given.items() if is_given])
    loaded = load_suite(suite, plugins=plugin or ())
    request = _requests(loaded, site)
    store = open_store(results.absolute())
    store.ensure_writable()
    options = RunOptions(
        results=store.root,
        data_root=find_data_root(data_root),
        cache_root=cache_root(),
        plugins=loaded.plugin_files,
        executor=executor,
        address=address,
        jobs=jobs,
        devices=tuple(device_names.parse(devices)) if executor == "local" else (),
        slots_per_device=slots_per_device,
        threads=threads,
        checkpoint_every_s=checkpoint_every,
        keep=tuple(keep or ()),
        keep_images=keep_images,
        suite=loaded.name,
        command=shlex.join(["lossbench", *sys.argv[1:]]),
    )
    sender = _sender(loaded, store)
    outcomes: list[Outcome] = []
    tried: set[str] = set()
    while True:  # once, or with `tune:` again when the trials have shown what comes next
        history = StoreHistory(
            store, loaded.registries, DataDrift(loaded.registries, options.data_root, options.cache_root)
        )
        known = loaded.known(_score(history, rerun_stale=rerun_stale))
        todo, rerun = _to_run(known.cells, history, rerun_stale=rerun_stale, tell=not tried)
        todo = [cell for cell in todo if cell.id not in tried]
        if tried and not todo:
            break
        place = f"; {_place(options, len(todo))}" if todo else ""
        failed = [outcome.job.cell for outcome in outcomes if outcome.status == "failed"]
        text = f"{loaded.name}: {_counted(known.cells, todo, failed, history.has)}{place}"
        stderr().print(text + (f"; {known.ahead}" if known.ahead else ""), soft_wrap=True)
        now = replace(options, rerun=rerun)
        if detach:
            raise typer.Exit(_left(todo, loaded, now, request, known.ahead))
        if sender is not None:
            running = tried | {cell.id for cell in todo}  # those are sent when they are finished
            sender.add(cell for cell in known.cells if cell.id not in running)
        outcomes += _watched(todo, loaded, now, store, request, sender)
        tried |= {cell.id for cell in todo}
        if not todo or not loaded.tune or exit_code(outcomes) == 130:
            break
    known = loaded.known(_score(StoreHistory(store, loaded.registries)))
    _report(known, outcomes, loaded, store)
    if sender is not None:
        if sender.left:
            stderr().print(f"cells still to be sent to trackers: {sender.left}; Ctrl-C leaves them for the next run")
        sender.close()
    raise typer.Exit(exit_code(outcomes))


def _score(history: StoreHistory, *, rerun_stale: bool = False) -> CellScore:
    """The mIoU of a cell's record; of a stale one that is going to be made anew, none yet."""
    return lambda cell: None if rerun_stale and history.stale_reasons(cell) else history.miou(cell)


def _to_run(
    cells: Sequence[Cell], history: StoreHistory, *, rerun_stale: bool, tell: bool
) -> tuple[list[Cell], frozenset[str]]:
    """Cells without a record. Those made by other code or from other data are named; with `rerun_stale` they run too,
    and their ids come second: their records are set aside when they can be made anew."""
    for line in history.warnings if tell else ():
        warn(line)
    todo, stale = [], []
    for cell in cells:
        if not history.has(cell):
            todo.append(cell)
        elif history.stale_reasons(cell):
            stale.append(cell)
    if stale and rerun_stale:
        chosen = {cell.id for cell in (*todo, *stale)}
        return [cell for cell in cells if cell.id in chosen], frozenset(cell.id for cell in stale)
    if stale and tell:
        reasons = sorted({reason for cell in stale for reason in history.stale_reasons(cell)})
        warn(
            f"{len(stale)} records were made by other code or from other data ({'; '.join(reasons)}); "
            "--rerun-stale makes them anew"
        )
    for label in history.doubtful_data(cells) if tell else ():
        warn(
            f"the files of {label} are not those that its records were made from, by name, size or time: well if they "
            "are a fresh copy; for other images or labels give the dataset another title, or another --results"
        )
    return todo, frozenset()


def _counted(cells: Sequence[Cell], todo: Sequence[Cell], failed: Sequence[Cell], has: Callable[[Cell], bool]) -> str:
    """How many of the cells have a record, failed in a round before this one (with their names), and are to run."""
    others = {cell.id for cell in (*todo, *failed)}
    text = f"{len(cells)} cells, {sum(cell.id not in others and has(cell) for cell in cells)} done before"
    if failed:
        names = "; ".join(cell.name for cell in failed[:3]) + ("; ..." if len(failed) > 3 else "")
        text += f", {len(failed)} failed ({names})"
    return f"{text}, {len(todo)} to run"


def _place(options: RunOptions, cells: int) -> str:
    """Where the cells will run, in words."""
    from lossbench.execution.devices import describe
    from lossbench.execution.executors import local_capacity

    if options.executor != "local":
        return f"on {options.executor.capitalize()}"
    capacity = local_capacity(options, cells)
    return describe(options.devices, capacity.usual, capacity.threads)


def _left(
    cells: Sequence[Cell], suite: Suite, options: RunOptions, request: Callable[[Cell], Request], ahead: str
) -> int:
    """Submit the cells, say how to look after them, and return the exit code."""
    from lossbench.cli.prepare import decoding, tell
    from lossbench.execution.suite_run import exit_code, submit_cells

    left = submit_cells(cells, suite.registries, options, resources=request, decoding=decoding, say=tell)
    console = stderr()
    for outcome in left.failed:
        console.print(f"failed: {outcome.job.cell.name}: {outcome.error['message']}", style="red", soft_wrap=True)
    before = f", {left.before} were queued or running before" if left.before else ""
    console.print(f"{left.submitted} cells submitted{before}. To look: lossbench status {suite.file}", soft_wrap=True)
    if ahead:
        console.print(f"{ahead}: nobody waits for them here, so give this command again then", soft_wrap=True)
    return exit_code(left.failed)


def _sender(suite: Suite, store: Store) -> Sender | None:
    """What sends records to the trackers of the suite. Raises SetupError before the first cell, not after it."""
    if not suite.track:
        return None
    from lossbench.tracking import open_trackers
    from lossbench.tracking.sender import Sender

    trackers = open_trackers(suite.track, suite=suite.name, folder=store.root / "tracked", say=warn)
    return Sender(store, trackers, warn) if trackers else None


def _watched(
    cells: Sequence[Cell],
    suite: Suite,
    options: RunOptions,
    store: Store,
    request: Callable[[Cell], Request],
    sender: Sender | None,
) -> list[Outcome]:
    """Run the cells under a live display on a terminal, or with a plain line for each elsewhere."""
    from lossbench.cli.prepare import decoding, tell
    from lossbench.cli.progress import LiveProgress, PlainProgress
    from lossbench.execution.suite_run import run_cells
    from lossbench.tracking.sender import Tracking

    console = stderr()
    live = console.is_terminal and "NO_COLOR" not in os.environ
    progress = LiveProgress if live else PlainProgress

    def observe(jobs: list[Job]) -> ObserverContext:
        shown: ObserverContext = progress(console, jobs, store)
        return shown if sender is None else Tracking(shown, sender)

    return run_cells(
        cells,
        suite.registries,
        options,
        observe=observe,
        resources=request,
        decoding=decoding,
        say=tell,
    )


def _requests(suite: Suite, site: Path | None) -> Callable[[Cell], Request]:
    """What each cell asks of an executor: what the suite says, on top of what the site file does."""
    from lossbench.execution.base import Request, freeze
    from lossbench.sitefile import read_site, resources_at
    from lossbench.suite_schema import Resources

    resources_of = resources_at(suite, Resources() if site is None else read_site(site))

    def request(cell: Cell) -> Request:
        asked = resources_of(cell)
        slurm = tuple((key, freeze(value)) for key, value in asked.slurm().items())
        return Request(asked.gpus, asked.cpus, asked.memory_gb, asked.minutes, slurm)

    return request


def _report(known: Known, outcomes: Sequence[Outcome], suite: Suite, store: Store) -> None:
    """The leaderboard of the suite's cells on stdout; what failed, and where everything lies, on stderr."""
    import numpy as np

    from lossbench.provenance import stale_reasons
    from lossbench.tuning.board import build_tracks
    from lossbench.views.terminal import render

    cells = known.cells
    wanted = np.array([int(cell.id, 16) for cell in cells], dtype=np.uint64)
    table = store.runs()[0]
    table = table.take(np.flatnonzero(np.isin(table.ids, wanted)))
    blocks = build_tracks(table, stale=lambda record: stale_reasons(record, suite.registries)) if len(table) else []
    if blocks:
        render(blocks, stdout())
    console = stderr()
    ends = Counter(
        "not started" if outcome.status == "interrupted" and not outcome.seconds else outcome.status
        for outcome in outcomes
    )
    failures: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.status == "failed":
            key = (str(outcome.error.get("message")), str(outcome.error.get("hint") or ""))
            failures.setdefault(key, []).append(outcome)
    for (message, hint), group in failures.items():
        names = ", ".join(outcome.job.cell.name for outcome in group[:3]) + (", ..." if len(group) > 3 else "")
        console.print(f"failed: {names}: {message}", style="red", soft_wrap=True)
        if hint:
            console.print(f"hint: {hint}", soft_wrap=True)
        log = group[0].job.spec.run_dir / "log.txt"
        if log.is_file():
            console.print(f"log: {log}", soft_wrap=True)
    missing = len(cells) - len(table) + known.trials + known.finals
    remedy = "run again to go on" if not failures else "mend what failed and run again"
    counts = ", ".join(f"{count} {status}" for status, count in ends.items() if status != "done")
    state = f"{len(table)} of {len(cells)} cells done" + (f" ({counts}; {remedy})" if missing else "")
    if known.ahead:
        state += f"; {known.ahead}"
    console.print(f"{state}. Records: {store.records_dir}; logs: {store.root / 'runs'}", soft_wrap=True)
