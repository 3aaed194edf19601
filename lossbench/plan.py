"""What there is to do: the state of every cell of a suite, and how long the rest will take.

`make_plan` is pure: what is known of the past comes through the `History` interface. `read_run_state` reads one
run folder (`<results>/runs/<cell id>/`) for it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal
from typing import Protocol as Interface

from lossbench.cells import Cell, canonical_json
from lossbench.execution.claim import holder
from lossbench.execution.events import last_events
from lossbench.execution.slurm_queue import GONE, RUNNING, alive
from lossbench.execution.spec import CHECKPOINTS
from lossbench.execution.submission import read_submission

#: `done`: its record is in the store. `stale`: it is, but other code made it. `running`: a worker is at it. `queued`:
#: it waits in a cluster's queue. `interrupted`: a checkpoint is there. `failed`: its last run left an error. `missing`:
#: never run.
State = Literal["done", "stale", "running", "queued", "interrupted", "failed", "missing"]
STATES: tuple[State, ...] = ("done", "stale", "running", "queued", "interrupted", "failed", "missing")
#: What a run would start. A stale record is shown, never silently made anew.
TO_RUN: frozenset[State] = frozenset({"interrupted", "failed", "missing"})
#: What somebody is at.
UNDER_WAY: frozenset[State] = frozenset({"running", "queued"})


@dataclass(frozen=True)
class RunState:
    """What a run folder says. `progress` is the share of the steps done, 0..1; `message` the error of a failure, or on
    which other machine it runs."""

    state: Literal["running", "queued", "interrupted", "failed"]
    progress: float = 0.0
    message: str | None = None


@dataclass(frozen=True)
class PastCost:
    """What one finished run took: `Cell.identity`, seconds of training and of evaluation, on what hardware, and whether
    that was a GPU."""

    cell: Mapping[str, Any]
    train_s: float
    eval_s: float
    hardware: str = ""
    gpu: bool = False


class History(Interface):
    """What `make_plan` asks of the results directory."""

    def has(self, cell: Cell) -> bool:
        """Whether the cell's record is in the store."""

    def stale_reasons(self, cell: Cell) -> Sequence[str]:
        """Why the record of a cell that `has` one might come out otherwise today; empty when nothing changed."""

    def run_state(self, cell_id: str) -> RunState | None:
        """What the cell's run folder says; None when there is nothing in it."""

    def costs(self) -> Iterable[PastCost]:
        """Costs of past runs, in any order."""


@dataclass(frozen=True)
class Estimate:
    """Seconds a cell will take from now on, and what that rests on."""

    seconds: float
    basis: Literal["same loss", "same protocol", "scaled", "other dataset"]


@dataclass(frozen=True)
class PlannedCell:
    """A cell, its state, why (stale reasons, the error of a failure, the other machine it runs on), and the time it
    will still take.

    `estimate` is None when nothing comparable ever ran, and for cells that are done or stale.
    """

    cell: Cell
    state: State
    reasons: tuple[str, ...] = ()
    progress: float = 0.0
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Summary:
    """Cells by state; the seconds one worker needs for those to run, over the `known` ones; how many are not."""

    states: Mapping[State, int]
    seconds: float
    known: int
    unknown: int


def make_plan(
    cells: Iterable[Cell], history: History, *, hardware: str = "", gpus_only: bool = False
) -> list[PlannedCell]:
    """The state of every cell, in order.

    Args:
        cells: of a suite.
        history: the results directory.
        hardware: count only the costs of runs on this hardware (as `PastCost.hardware` names it); empty: of all.
        gpus_only: count only those of runs on GPUs.
    """
    estimator = _Estimator(
        cost for cost in history.costs() if (not hardware or cost.hardware == hardware) and (cost.gpu or not gpus_only)
    )
    plan = []
    for cell in cells:
        reasons = tuple(history.stale_reasons(cell)) if history.has(cell) else None
        if reasons == ():  # done: nobody looks into its run folder
            plan.append(PlannedCell(cell, "done", progress=1.0))
            continue
        run = history.run_state(cell.id)
        if reasons is not None and (run is None or run.state not in UNDER_WAY):  # what an older attempt left is no news
            plan.append(PlannedCell(cell, "stale", reasons, progress=1.0))
            continue
        state: State = run.state if run else "missing"
        progress = run.progress if run else 0.0
        reasons = (run.message,) if run and run.message else ()
        plan.append(PlannedCell(cell, state, reasons, progress, estimator.estimate(cell, progress)))
    return plan


def summarise(plan: Iterable[PlannedCell]) -> Summary:
    """Counts by state (states without a cell left out) and the time of what a run would start or is running."""
    planned = list(plan)
    counts = Counter(item.state for item in planned)
    rest = [item.estimate for item in planned if item.state in TO_RUN | UNDER_WAY]
    known = [estimate.seconds for estimate in rest if estimate is not None]
    return Summary(
        states={state: counts[state] for state in STATES if counts[state]},
        seconds=sum(known),
        known=len(known),
        unknown=len(rest) - len(known),
    )


# --- time ---


def _work(protocol: Mapping[str, Any]) -> float:
    """Pixels a training run goes through: what its time is proportional to, for one network and one machine."""
    height, width = protocol["crop"]
    return float(protocol["iterations"] * protocol["batch_size"] * height * width)


class _Estimator:
    """Past costs, nearest first: same dataset, backbone and protocol (same loss before any loss); then another
    protocol, scaled by the pixels trained on; then another dataset on the same backbone, scaled too."""

    def __init__(self, costs: Iterable[PastCost]) -> None:
        self._by_key: dict[tuple[str, ...], list[PastCost]] = defaultdict(list)
        # Many costs share one cell object, and cells one key: each is worked out once.
        known: dict[int, list[tuple[str, ...]]] = {}
        self._medians: dict[tuple[tuple[str, ...], float], tuple[float, float]] = {}
        for cost in costs:
            if id(cost.cell) not in known:
                known[id(cost.cell)] = [key for _, key in self._keys(cost.cell)]
            for key in known[id(cost.cell)]:
                self._by_key[key].append(cost)

    def estimate(self, cell: Cell, progress: float) -> Estimate | None:
        identity = cell.identity
        for basis, key in self._keys(identity):
            past = self._by_key.get(key)
            if not past:
                continue
            work = _work(identity["protocol"])
            if (key, work) not in self._medians:
                # With the same protocol the ratio of work is 1.
                train = median(cost.train_s * work / _work(cost.cell["protocol"]) for cost in past)
                self._medians[key, work] = train, median(cost.eval_s for cost in past)
            train, evaluation = self._medians[key, work]
            return Estimate(train * (1 - progress) + evaluation, basis)
        return None

    @staticmethod
    def _keys(
        cell: Mapping[str, Any],
    ) -> list[tuple[Literal["same loss", "same protocol", "scaled", "other dataset"], tuple[str, ...]]]:
        dataset, backbone = canonical_json(cell["dataset"]), canonical_json(cell["backbone"])
        protocol, loss = canonical_json(cell["protocol"]), cell["loss"]["name"]
        return [
            ("same loss", ("protocol+loss", dataset, backbone, protocol, loss)),
            ("same protocol", ("protocol", dataset, backbone, protocol)),
            ("scaled", ("dataset+loss", dataset, backbone, loss)),
            ("scaled", ("dataset", dataset, backbone)),
            ("other dataset", ("backbone+loss", backbone, loss)),
            ("other dataset", ("backbone", backbone)),
        ]


# --- one run folder ---


def read_run_state(folder: Path, cluster: Mapping[str, str] | None = None) -> RunState | None:
    """What the folder of a run says, or None when it holds no trace of one.

    Read are the claim of the worker that is at it, `submission.json` (while a cluster has it), `error.json` (after a
    failure), the checkpoints and the last step in `events.jsonl`. A damaged file is no error here: what can be said
    without it is said.

    Args:
        cluster: states of a cluster's jobs by their names; None where it cannot be asked: then what was submitted
            counts as queued.
    """
    if not folder.is_dir():
        return None
    progress = _progress(folder / "events.jsonl")
    if (process := holder(folder)) is not None:
        return RunState("running", progress, None if process.is_here() else f"on {process.host}")
    submission = read_submission(folder)
    if submission is not None and submission.exit_code(folder.name) is None and not submission.asked(folder.name):
        job = "PENDING" if cluster is None else cluster.get(submission.job, GONE)
        if alive(job):
            return RunState("running" if job in RUNNING else "queued", progress)
    resumable = any((folder / name).is_file() for name in CHECKPOINTS)
    error = _read_json(folder / "error.json")
    if error is not None:
        kind, message = error.get("kind"), error.get("message")
        return RunState(
            "failed", progress if resumable else 0.0, ": ".join(str(part) for part in (kind, message) if part) or None
        )
    return RunState("interrupted", progress) if resumable else None


def _progress(events: Path) -> float:
    """Share of the steps done, from the last event that names a step."""
    for event in last_events(events):
        step, iterations = event.get("step"), event.get("iterations")
        if isinstance(step, int) and isinstance(iterations, int) and iterations > 0:
            return min(max(step / iterations, 0.0), 1.0)
    return 0.0


def _read_json(file: Path) -> dict[str, Any] | None:
    try:
        return _parse(file.read_bytes())
    except OSError:
        return None


def _parse(text: bytes) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
