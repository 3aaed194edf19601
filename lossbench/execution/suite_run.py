"""A suite from plan to outcomes: prepare the data, make the jobs, run the scheduler. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lossbench.cells import Cell, canonical_json
from lossbench.data.build import Progress
from lossbench.data.cache import open_split
from lossbench.data.roots import dataset_root
from lossbench.errors import SetupError
from lossbench.execution.base import Executor, Job, Observer, Outcome, Request
from lossbench.execution.detach import Left, leave
from lossbench.execution.executors import make_executor
from lossbench.execution.plugins import code_hashes
from lossbench.execution.scheduler import Scheduler
from lossbench.execution.slurm_queue import alive, states
from lossbench.execution.spec import KEEP_IMAGES, Spec, write_json
from lossbench.execution.submission import submissions
from lossbench.execution.worker import describe_error
from lossbench.registry import Kind, Registry
from lossbench.store import Store


@dataclass(frozen=True)
class RunOptions:
    """How to run; nothing here may change a result.

    Attributes:
        executor: "local", "slurm" or "ray".
        address: of a Ray cluster; None: this machine.
        rerun: ids of cells whose records, made by other code, are set aside and made anew.
    """

    results: Path
    data_root: Path
    cache_root: Path
    plugins: tuple[Path, ...] = ()
    executor: str = "local"
    address: str | None = None
    jobs: int | None = None
    devices: tuple[str, ...] = ()
    slots_per_device: int = 1
    threads: int | None = None
    checkpoint_every_s: float = 60.0
    keep: tuple[str, ...] = ()
    keep_images: int = KEEP_IMAGES
    rerun: frozenset[str] = frozenset()
    suite: str = ""
    command: str = ""


#: Opened around the decoding of a split, named to it; gives the callback for images done.
Decoding = Callable[[str], AbstractContextManager[Progress | None]]


class ObserverContext(Observer, AbstractContextManager["ObserverContext"], Protocol):
    """An observer that is open while the cells run."""


def prepare_data(
    cells: Sequence[Cell],
    registries: Mapping[Kind, Registry],
    options: RunOptions,
    *,
    decoding: Decoding = lambda what: nullcontext(),
    say: Callable[[str], None] = lambda message: None,
) -> dict[str, BaseException]:
    """Decode every split the cells need into the cache, once, before anything trains.

    Args:
        decoding, say: told of the progress, see `open_split`.

    Returns:
        The errors by the keys of `_splits`: the cells that need such a split fail with it, all others run.
    """
    errors: dict[str, BaseException] = {}
    prepared: set[str] = set()
    for cell in cells:
        for key, split in _splits(cell).items():
            if key in prepared:
                continue
            prepared.add(key)
            try:
                root = dataset_root(options.data_root, cell.dataset.name)
                dataset = registries["dataset"].get(cell.dataset.name).build(cell.dataset.params, root=root)
                with decoding(f"{cell.dataset.label} {split}") as progress:
                    open_split(dataset, split, cache_root=options.cache_root, progress=progress, say=say)
            except (Exception, SystemExit) as error:  # whatever a plugin's dataset may raise ends its own cells
                errors[key] = error
    return errors


def _splits(cell: Cell) -> dict[str, str]:
    """The splits a cell needs, by a key that is the same for all cells that need it."""
    dataset = canonical_json(cell.dataset.identity)
    return {f"{dataset} {split}": split for split in (cell.protocol.train_split, cell.protocol.eval_split)}


def run_cells(
    cells: Sequence[Cell],
    registries: Mapping[Kind, Registry],
    options: RunOptions,
    *,
    observe: Callable[[list[Job]], ObserverContext],
    resources: Callable[[Cell], Request] = lambda cell: Request(),
    decoding: Decoding = lambda what: nullcontext(),
    say: Callable[[str], None] = lambda message: None,
) -> list[Outcome]:
    """Run every cell to its record. Cells whose data is not usable fail with that error; nothing is raised for
    what a cell does."""
    if not cells:
        return []
    held = set() if options.executor == "slurm" else _on_slurm(cells, options, say)
    outcomes = [_held_back(cell, options, resources(cell)) for cell in cells if cell.id in held]
    free = [cell for cell in cells if cell.id not in held]
    executor, jobs = None, list[Job]()
    if free:
        executor, jobs, failed = _prepare(free, registries, options, resources, decoding, say)
        outcomes += failed
    with observe([*jobs, *(outcome.job for outcome in outcomes)]) as observer:
        for outcome in outcomes:
            observer.finished(outcome)
        return outcomes + (Scheduler(executor, Store(options.results), observer).run(jobs) if executor else [])


def submit_cells(
    cells: Sequence[Cell],
    registries: Mapping[Kind, Registry],
    options: RunOptions,
    *,
    resources: Callable[[Cell], Request] = lambda cell: Request(),
    decoding: Decoding = lambda what: nullcontext(),
    say: Callable[[str], None] = lambda message: None,
) -> Left:
    """Hand every cell to the cluster and leave: nobody watches, the workers go on by themselves."""
    if not cells:
        return Left()
    executor, jobs, outcomes = _prepare(cells, registries, options, resources, decoding, say)
    left = leave(executor, jobs)
    executor.close()
    return replace(left, failed=(*outcomes, *left.failed))


def _on_slurm(cells: Sequence[Cell], options: RunOptions, say: Callable[[str], None]) -> set[str]:
    """Ids of the cells that were left with Slurm and may still be queued or running there: run here as well, they would
    get a spec of this machine's before they start there."""
    found = submissions(options.results, [cell.id for cell in cells])
    known = states(item.job for item in found.values())
    held = {cell for cell, item in found.items() if known is None or alive(known[item.job])}
    if held:
        where = "are with Slurm" if known is not None else "were left with Slurm, which does not answer here,"
        say(f"{len(held)} cells {where} and left out; `lossbench cancel` takes them back where `squeue` works")
    return held


def _held_back(cell: Cell, options: RunOptions, request: Request) -> Outcome:
    return Outcome(Job(cell, _spec(cell, options, request, {}), request), "interrupted")


def _prepare(
    cells: Sequence[Cell],
    registries: Mapping[Kind, Registry],
    options: RunOptions,
    resources: Callable[[Cell], Request],
    decoding: Decoding,
    say: Callable[[str], None],
) -> tuple[Executor, list[Job], list[Outcome]]:
    """The executor, the jobs to give it, and the outcomes of cells that cannot be run."""
    executor = make_executor(options, cells, registries)
    # Taken now, while the fork server imports torch: it is going to import these files. Workers on other machines
    # import what they find when they start, and say so themselves.
    code = code_hashes(cells, registries) if options.executor == "local" else [{}] * len(cells)
    errors = prepare_data(cells, registries, options, decoding=decoding, say=say)
    jobs, outcomes = [], []
    for cell, cell_code in zip(cells, code, strict=True):
        request = resources(cell)
        job = Job(cell, _spec(cell, options, request, cell_code), request)
        error = next((errors[key] for key in _splits(cell) if key in errors), None) or _refused(executor, cell, request)
        if error is None:
            jobs.append(job)
        else:
            outcome = Outcome(job, "failed", error=describe_error(error))
            with suppress(OSError):
                job.spec.write()
                write_json(job.spec.run_dir / "error.json", outcome.error)  # where `status` finds it
            outcomes.append(outcome)
    for job in jobs:  # not before it is sure that they can be made anew
        if job.cell.id in options.rerun:
            Store(options.results).set_aside(job.cell)
    return executor, jobs, outcomes


def _spec(cell: Cell, options: RunOptions, request: Request, code: Mapping[Kind, str]) -> Spec:
    return Spec(
        cell=cell.to_json(),
        cell_id=cell.id,
        results=options.results,
        data_root=options.data_root,
        cache_root=options.cache_root,
        plugins=options.plugins,
        memory_gb=request.memory_gb,
        checkpoint_every_s=options.checkpoint_every_s,
        keep=options.keep,
        keep_images=options.keep_images,
        suite=options.suite,
        command=options.command,
        code={str(kind): digest for kind, digest in code.items()},
    )


def _refused(executor: Executor, cell: Cell, request: Request) -> SetupError | None:
    why = executor.refuses(request)
    return SetupError(f"{cell.name} {why}", hint="lower `resources` in the suite") if why else None


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0 all done; 130 interrupted; the users' own mistake (2) or the machine's lack (3) when every failure is one;
    else 1."""
    if any(outcome.status == "interrupted" for outcome in outcomes):
        return 130
    codes = {int(outcome.error.get("exit_code", 1)) for outcome in outcomes if outcome.status == "failed"}
    if not codes:
        return 0
    return codes.pop() if len(codes) == 1 else 1
