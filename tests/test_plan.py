"""The plan: states, estimates, and what a run folder says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.cells import Cell, Component
from lossbench.execution.claim import Claim
from lossbench.plan import TO_RUN, Estimate, PastCost, RunState, make_plan, read_run_state, summarise
from lossbench.processes import Process
from lossbench.protocol import Protocol

SHORT = Protocol(iterations=100, batch_size=8, crop=[10, 10])
LONG = Protocol(iterations=300, batch_size=4, crop=[20, 10])


def cell(
    loss: str = "ce",
    seed: int = 0,
    *,
    dataset: str = "streets",
    backbone: str = "net",
    protocol: Protocol = SHORT,
) -> Cell:
    return Cell(Component(dataset), Component(backbone), Component(loss), seed, protocol)


def cost(of: Cell, train_s: float, eval_s: float = 0.0, hardware: str = "") -> PastCost:
    return PastCost(of.identity, train_s, eval_s, hardware)


@dataclass
class Past:
    """A History held in memory."""

    records: set[str] = field(default_factory=set)
    stale: dict[str, list[str]] = field(default_factory=dict)
    runs: dict[str, RunState] = field(default_factory=dict)
    past: list[PastCost] = field(default_factory=list)

    def has(self, cell: Cell) -> bool:
        return cell.id in self.records

    def stale_reasons(self, cell: Cell) -> Sequence[str]:
        return self.stale.get(cell.id, [])

    def run_state(self, cell_id: str) -> RunState | None:
        return self.runs.get(cell_id)

    def costs(self) -> Iterable[PastCost]:
        return self.past


# --- states ---


def test_every_state() -> None:
    done, stale, running, interrupted, failed, missing = (cell(seed=n) for n in range(6))
    history = Past(
        records={done.id, stale.id},
        stale={stale.id: ["loss ce changed since"]},
        runs={
            done.id: RunState("failed", 0.3, "an older attempt"),
            running.id: RunState("running", 0.5),
            interrupted.id: RunState("interrupted", 0.25),
            failed.id: RunState("failed", 0.0, "ValueError: no"),
        },
    )
    plan = make_plan([done, stale, running, interrupted, failed, missing], history)
    assert [item.state for item in plan] == ["done", "stale", "running", "interrupted", "failed", "missing"]
    assert [item.progress for item in plan] == [1.0, 1.0, 0.5, 0.25, 0.0, 0.0]
    assert plan[1].reasons == ("loss ce changed since",)
    assert plan[4].reasons == ("ValueError: no",)
    assert [item.state in TO_RUN for item in plan] == [False, False, False, True, True, True]
    assert summarise(plan).states == dict.fromkeys(("done", "stale", "running", "interrupted", "failed", "missing"), 1)


def test_a_stale_record_being_made_anew_is_running() -> None:
    one = cell()
    history = Past(records={one.id}, stale={one.id: ["changed"]}, runs={one.id: RunState("running", 0.1)})
    assert make_plan([one], history)[0].state == "running"
    history.runs[one.id] = RunState("failed", 0.1, "older")
    assert make_plan([one], history)[0].state == "stale"


# --- estimates ---


def estimate(of: Cell, *past: PastCost, **options: str) -> Estimate | None:
    return make_plan([of], Past(past=list(past)), **options)[0].estimate


def test_nothing_comparable_is_unknown() -> None:
    assert estimate(cell()) is None
    assert estimate(cell(), cost(cell(backbone="other"), 10)) is None
    plan = make_plan([cell(), cell("focal")], Past())
    assert (summarise(plan).known, summarise(plan).unknown, summarise(plan).seconds) == (0, 2, 0)


def test_the_nearest_past_counts() -> None:
    same_loss = cost(cell(seed=7), 10, 1)
    other_loss = cost(cell("cdfl"), 30, 1)
    scaled = cost(cell(protocol=LONG), 120, 2)
    elsewhere = cost(cell(dataset="camvid"), 50, 5)
    assert estimate(cell(), elsewhere, scaled, other_loss, same_loss) == Estimate(11, "same loss")
    assert estimate(cell(), elsewhere, scaled, other_loss) == Estimate(31, "same protocol")
    # LONG goes through 300*4*200 pixels, SHORT through 100*8*100: a third
    assert estimate(cell(), elsewhere, scaled) == Estimate(pytest.approx(42), "scaled")
    assert estimate(cell(), elsewhere) == Estimate(55, "other dataset")


def test_when_scaling_the_same_loss_is_nearer_than_another() -> None:
    past = [cost(cell("cdfl", protocol=LONG), 300), cost(cell("ce", protocol=LONG), 120)]
    assert estimate(cell("cdfl"), *past) == Estimate(pytest.approx(100), "scaled")
    assert estimate(cell("ce"), *past) == Estimate(pytest.approx(40), "scaled")


def test_the_median_is_not_moved_by_one_slow_run() -> None:
    past = [cost(cell(seed=n), seconds) for n, seconds in enumerate((10, 11, 1000))]
    assert estimate(cell(seed=9), *past) == Estimate(11, "same loss")


def test_only_runs_on_the_given_hardware_count() -> None:
    past = [cost(cell(), 10, hardware="gpu"), cost(cell("focal"), 500, hardware="cpu")]
    assert estimate(cell(), *past, hardware="cpu") == Estimate(500, "same protocol")
    assert estimate(cell(), *past, hardware="tpu") is None


def test_what_was_done_before_the_interruption_is_not_done_again() -> None:
    one = cell()
    history = Past(runs={one.id: RunState("interrupted", 0.75)}, past=[cost(cell(seed=1), 100, 8)])
    (item,) = make_plan([one], history)
    assert item.estimate == Estimate(pytest.approx(33), "same loss")


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ce", "focal", "cdfl"]), st.floats(0.1, 1e4)), min_size=1, max_size=8))
def test_an_estimate_lies_between_the_fastest_and_the_slowest(runs: list[tuple[str, float]]) -> None:
    past = [cost(cell(loss, seed=n), seconds) for n, (loss, seconds) in enumerate(runs)]
    found = estimate(cell("ce", seed=99), *past)
    assert found is not None
    relevant = [seconds for loss, seconds in runs if loss == "ce"] or [seconds for _, seconds in runs]
    assert min(relevant) * (1 - 1e-9) <= found.seconds <= max(relevant) * (1 + 1e-9)


# --- run folders ---


def write_events(folder: Path, *events: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    assert read_run_state(tmp_path / "none") is None
    assert read_run_state(tmp_path) is None
    write_events(tmp_path, {"t": 1, "event": "start"})
    assert read_run_state(tmp_path) is None  # it never came as far as a checkpoint


def test_a_checkpoint_is_an_interruption(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        {"t": 1, "event": "start"},
        {"t": 2, "event": "step", "step": 50, "iterations": 200, "loss": 1.0},
        {"t": 3, "event": "eval", "miou": 0.1},
    )
    (tmp_path / "checkpoint.pt").touch()
    assert read_run_state(tmp_path) == RunState("interrupted", 0.25)


def test_progress_survives_a_half_written_line_and_a_long_file(tmp_path: Path) -> None:
    write_events(tmp_path, *({"event": "step", "step": n, "iterations": 1000, "loss": 0.1} for n in range(901)))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 9')
    (tmp_path / "checkpoint.pt").touch()
    assert read_run_state(tmp_path) == RunState("interrupted", 0.9)


def test_a_failure(tmp_path: Path) -> None:
    write_events(tmp_path, {"event": "step", "step": 50, "iterations": 200})
    (tmp_path / "error.json").write_text(json.dumps({"kind": "OutOfMemory", "message": "3 GB", "hint": None}))
    assert read_run_state(tmp_path) == RunState("failed", 0.0, "OutOfMemory: 3 GB")
    (tmp_path / "checkpoint.pt").touch()
    assert read_run_state(tmp_path) == RunState("failed", 0.25, "OutOfMemory: 3 GB")
    (tmp_path / "error.json").write_text("{")
    assert read_run_state(tmp_path) == RunState("failed", 0.25, None)


def test_a_cell_that_somebody_holds_is_a_run(tmp_path: Path) -> None:
    write_events(tmp_path, {"event": "step", "step": 50, "iterations": 100})
    (tmp_path / "checkpoint.pt").touch()
    with Claim(tmp_path):
        files = sorted(tmp_path.iterdir())
        assert read_run_state(tmp_path) == RunState("running", 0.5)
        assert sorted(tmp_path.iterdir()) == files, "looking leaves nothing behind"
    assert read_run_state(tmp_path) == RunState("interrupted", 0.5)


def test_where_else_it_runs_is_told(tmp_path: Path) -> None:
    with Claim(tmp_path, Process("node7", "another boot", 12, "345")):
        assert read_run_state(tmp_path) == RunState("running", 0.0, "on node7")


def test_a_killed_worker_is_not_running(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").touch()
    code = "import sys; from pathlib import Path; from lossbench.execution.claim import Claim\n" \
        "with Claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"  # fmt: skip
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"held\n"
        assert read_run_state(tmp_path) == RunState("running", 0.0)
        worker.kill()
    assert read_run_state(tmp_path) == RunState("interrupted", 0.0)
