"""The scheduler's decisions, against an executor whose workers do exactly as told."""

import itertools
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossbench.cells import Cell, Component
from lossbench.execution import scheduler as scheduler_module
from lossbench.execution.base import Job, NotNow, Outcome, Place, Request
from lossbench.execution.claim import Claim, holder
from lossbench.execution.scheduler import Scheduler, death
from lossbench.execution.spec import (
    EXIT_BUSY,
    EXIT_CANCELLED,
    EXIT_CHECKPOINTED,
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_LOST,
    EXIT_OUT_OF_MEMORY,
    EXIT_UNWRITABLE,
    Spec,
    write_json,
)
from lossbench.processes import Process
from lossbench.protocol import Protocol


def make_job(root: Path, name: str = "ce", seed: int = 0, minutes: float | None = None) -> Job:
    cell = Cell(Component("streets"), Component("fcn_timm"), Component(name), seed, Protocol(iterations=10))
    spec = Spec(cell.to_json(), cell.id, results=root, data_root=root, cache_root=root)
    return Job(cell, spec, Request(minutes=minutes))


class FakeStore:
    """A cell is done when a file says so."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, cell: Cell) -> bool:
        return (self.root / f"{cell.id}.record").exists()

    def put(self, cell_id: str) -> None:
        (self.root / f"{cell_id}.record").touch()


class FakeHandle:
    def __init__(self, behave: Callable[["FakeHandle"], int | None]) -> None:
        self.behave, self.asked, self.killed = behave, list[str](), False
        self.queued = getattr(behave, "queued", False)

    def running(self) -> bool:
        return not self.queued

    def poll(self) -> int | None:
        return -signal.SIGKILL if self.killed else self.behave(self)

    def stop(self) -> None:
        self.asked.append("stop")

    def terminate(self) -> None:
        self.asked.append("terminate")

    def kill(self) -> None:
        self.asked.append("kill")
        self.killed = True


class FakeExecutor:
    """Runs `script[cell id]`: one behaviour per attempt."""

    poll_s = 0.001

    def __init__(self, slots: int, script: dict[str, list[Callable[[FakeHandle], int | None]]]) -> None:
        self.slots, self.free, self.script = slots, slots, script
        self.devices: tuple[str, ...] = ("cpu",)
        self.submitted: list[str] = []
        self.handles: list[FakeHandle] = []
        self.left: dict[str, FakeHandle] = {}
        self.specs: list[Spec] = []
        self.most = self.closed = 0

    def refuses(self, request: Request) -> str | None:
        return None

    def reserve(self, request: Request) -> Place | None:
        if not self.free:
            return None
        self.free -= 1
        return Place(self.devices)

    def release(self, place: Place) -> None:
        self.free += 1

    def submit(self, specs: list[tuple[Path, Request]]) -> list[FakeHandle | Exception]:
        return [self.start(path) for path, _ in specs]

    def start(self, path: Path) -> FakeHandle | Exception:
        cell_id = path.parent.name
        self.submitted.append(cell_id)
        self.specs.append(Spec.read(path))
        self.most = max(self.most, self.slots - self.free)
        self.handles.append(FakeHandle(self.script[cell_id].pop(0)))
        return self.handles[-1]

    def adopt(self, spec: Spec, request: Request) -> FakeHandle | None:
        return self.left.get(spec.cell_id)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        self.closed += 1


class Watch:
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.finals: list[Outcome] = []
        self.begun: list[Job] = []

    def started(self, job: Job) -> None:
        self.begun.append(job)

    def progressed(self, job: Job, event: dict[str, Any]) -> None:
        self.events.append(event)

    def finished(self, outcome: Outcome) -> None:
        self.finals.append(outcome)

    def said(self, message: str) -> None:
        self.messages.append(message)


def exits(code: int) -> Callable[[FakeHandle], int | None]:
    return lambda handle: code


def hangs(handle: FakeHandle) -> int | None:
    return None


@pytest.fixture
def world(tmp_path: Path) -> Any:
    class World:
        store = FakeStore(tmp_path)
        watch = Watch()

        def finishes(self, job: Job, code: int = EXIT_DONE) -> Callable[[FakeHandle], int | None]:
            def behave(handle: FakeHandle) -> int | None:
                self.store.put(job.cell.id)
                return code

            return behave

        def fails(self, job: Job, **error: Any) -> Callable[[FakeHandle], int | None]:
            def behave(handle: FakeHandle) -> int | None:
                write_json(job.spec.run_dir / "error.json", {"message": "boom", "exit_code": 1, **error})
                return EXIT_FAILED

            return behave

        def __init__(self) -> None:
            self.left: dict[Job, Any] = {}
            self.places: tuple[str, ...] = ("cpu",)

        def run(self, script: dict[Job, list[Any]] | list[tuple[Job, list[Any]]], slots: int = 2) -> list[Outcome]:
            pairs = list(script)
            self.executor = FakeExecutor(slots, {job.cell.id: list(acts) for job, acts in pairs})
            self.executor.devices = self.places
            self.executor.left = {job.cell.id: FakeHandle(act) for job, act in self.left.items()}
            self.scheduler = Scheduler(self.executor, self.store, self.watch, grace_s=0.2)  # type: ignore[arg-type]
            return self.scheduler.run([job for job, _ in pairs])

        def job(self, **kwargs: Any) -> Job:
            return make_job(tmp_path, **kwargs)

    return World()


def test_all_done_within_the_slots_seeds_outermost(world: Any) -> None:
    jobs = [world.job(name=name, seed=seed) for name in "abc" for seed in (0, 1)]
    outcomes = world.run([(job, [world.finishes(job)]) for job in jobs])
    assert [o.status for o in outcomes] == ["done"] * 6
    assert [o.job.cell.seed for o in outcomes] == [0, 0, 0, 1, 1, 1]
    assert world.executor.most == 2


def test_what_took_longest_with_one_seed_goes_first_with_the_next(world: Any) -> None:
    """No slot idles at the end of a suite while one long cell runs alone."""
    seconds = {"a": 0.0, "b": 0.06, "c": 0.03}
    jobs = [world.job(name=name, seed=seed) for seed in (0, 1) for name in seconds]

    def takes(job: Job) -> Callable[[FakeHandle], int | None]:
        def behave(handle: FakeHandle) -> int | None:
            time.sleep(seconds[job.cell.loss.name])
            world.store.put(job.cell.id)
            return EXIT_DONE

        return behave

    world.run([(job, [takes(job)]) for job in jobs], slots=1)
    names = {job.cell.id: (job.cell.seed, job.cell.loss.name) for job in jobs}
    assert [names[cell] for cell in world.executor.submitted] == [
        *((0, name) for name in "abc"),
        *((1, name) for name in "bca"),
    ]


def test_one_cells_death_never_touches_another(world: Any) -> None:
    good, bad = world.job(name="good"), world.job(name="bad")
    outcomes = world.run([(bad, [world.fails(bad, message="loss is bad")]), (good, [world.finishes(good)])])
    by_name = {o.job.cell.loss.name: o for o in outcomes}
    assert by_name["good"].status == "done"
    assert by_name["bad"].status == "failed"
    assert by_name["bad"].error["message"] == "loss is bad"


@pytest.mark.parametrize("code", [-signal.SIGKILL, 255])
def test_a_killed_worker_is_started_again_once(world: Any, code: int) -> None:
    job = world.job()
    assert world.run([(job, [exits(code), world.finishes(job)])])[0].status == "done"
    assert "starting it again" in world.watch.messages[0]


def test_killed_twice_is_a_failure_that_is_written_down(world: Any) -> None:
    job = world.job()
    outcome = world.run([(job, [exits(-9), exits(-9)])])[0]
    assert outcome.status == "failed"
    assert "SIGKILL" in outcome.error["message"]
    assert json.loads((job.spec.run_dir / "error.json").read_text())["kind"] == "Killed"


def test_a_cell_that_gets_on_outlives_any_number_of_machines(world: Any) -> None:
    """But not one that dies at the same place twice."""
    steady, stuck = world.job(name="steady"), world.job(name="stuck")

    def lost_at(job: Job, step: int) -> Callable[[FakeHandle], int]:
        def behave(handle: FakeHandle) -> int:
            with (job.spec.run_dir / "events.jsonl").open("a") as file:
                file.write(json.dumps({"event": "checkpoint", "step": step}) + "\n")
            return EXIT_LOST

        return behave

    attempts = [*(lost_at(steady, step) for step in (1, 2, 3, 4)), world.finishes(steady)]
    outcomes = world.run([(steady, attempts), (stuck, [lost_at(stuck, 5)] * 3)])
    assert {o.job.cell.loss.name: o.status for o in outcomes} == {"steady": "done", "stuck": "failed"}


def test_a_worker_that_could_say_why_it_was_lost_is_believed(world: Any) -> None:
    job = world.job()

    def says_why(handle: FakeHandle) -> int:
        write_json(job.spec.run_dir / "error.json", {"kind": "RankLost", "message": "rank 1 was killed"})
        return EXIT_LOST

    outcome = world.run([(job, [exits(EXIT_LOST), says_why])])[0]
    assert outcome.error["message"] == "rank 1 was killed"


def test_micro_batches_that_one_device_cannot_halve_are_not_split(world: Any) -> None:
    job = world.job()
    world.places = ("cpu",) * 8
    assert world.run([(job, [exits(EXIT_OUT_OF_MEMORY)])])[0].error["kind"] == "OutOfMemory"


def test_a_segfault_is_the_cells_own_and_not_tried_again(world: Any) -> None:
    job = world.job()
    outcome = world.run([(job, [exits(-signal.SIGSEGV)])])[0]
    assert "SIGSEGV" in outcome.error["message"]


def test_a_record_counts_whatever_the_exit_code(world: Any) -> None:
    job = world.job()
    assert world.run([(job, [world.finishes(job, code=-9)])])[0].status == "done"


def test_well_ended_without_a_record_is_a_failure(world: Any) -> None:
    job = world.job()
    assert world.run([(job, [exits(EXIT_DONE)])])[0].error["kind"] == "NoRecord"


@pytest.mark.parametrize(
    ("error", "kind", "exit_code"),
    [(OSError(11, "Resource unavailable"), "NotStarted", 1), (OSError(28, "No space left"), "SetupError", 3)],
)
def test_a_worker_that_cannot_be_started_leaves_the_others_alone(
    world: Any, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: str, exit_code: int
) -> None:
    monkeypatch.setattr(scheduler_module, "BUSY_WAIT_S", 0.01)
    good, bad = world.job(name="good"), world.job(name="bad")
    start = FakeExecutor.start

    def refuse(self: FakeExecutor, path: Path) -> FakeHandle | Exception:
        return error if path.parent.name == bad.cell.id else start(self, path)

    monkeypatch.setattr(FakeExecutor, "start", refuse)
    outcomes = {o.job.cell.loss.name: o for o in world.run([(bad, []), (good, [world.finishes(good)])], slots=1)}
    assert outcomes["good"].status == "done"
    assert outcomes["bad"].error["kind"] == kind
    assert outcomes["bad"].error["exit_code"] == exit_code
    assert str(error.strerror) in outcomes["bad"].error["message"]


def test_what_cannot_be_started_now_is_tried_for_as_long_as_the_executor_says(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.job()
    start, refusals = FakeExecutor.start, [NotNow("no answer", retry_after_s=0.01)] * 5
    monkeypatch.setattr(FakeExecutor, "start", lambda self, path: refusals.pop() if refusals else start(self, path))
    assert world.run([(job, [exits(EXIT_LOST), world.finishes(job)])])[0].status == "done"
    assert job.infrastructure_deaths == 1, "a refusal is no death"


def test_a_folder_that_cannot_be_written_is_the_machines_lack(world: Any) -> None:
    job = world.job()
    outcome = world.run([(job, [exits(EXIT_UNWRITABLE)])])[0]
    assert outcome.error["exit_code"] == 3
    assert str(job.spec.run_dir) in outcome.error["message"]


def test_a_checkpointed_worker_goes_on(world: Any) -> None:
    job = world.job()
    assert world.run([(job, [exits(EXIT_CHECKPOINTED), world.finishes(job)])])[0].status == "done"


def test_a_cell_that_is_done_before_its_turn_is_not_started(world: Any) -> None:
    job = world.job()
    world.store.put(job.cell.id)
    outcome = world.run([(job, [])])[0]
    assert outcome.status == "done"
    assert outcome.elsewhere
    assert world.executor.submitted == []


def test_a_busy_cell_is_waited_for(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "BUSY_WAIT_S", 0.05)
    job = world.job()

    def busy_then_done_elsewhere(handle: FakeHandle) -> int:
        world.store.put(job.cell.id)
        return EXIT_BUSY

    outcome = world.run([(job, [exits(EXIT_BUSY), busy_then_done_elsewhere])])[0]
    assert outcome.status == "done"
    assert outcome.elsewhere


def test_cells_of_another_machine_are_looked_at_less_and_less_often(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no worker is started only to find them busy."""
    monkeypatch.setattr(scheduler_module, "BUSY_WAIT_S", 0.01)
    job: Job = world.job()
    looks: list[float] = []
    held = Claim(job.spec.run_dir, Process("node7", "its boot", 7, "1"))

    def look(folder: Path) -> Process | None:
        found = holder(folder)
        looks.append(time.monotonic())
        if len(looks) == 6:
            held.__exit__(None, None, None)
        return found

    monkeypatch.setattr(scheduler_module, "holder", look)
    with held:
        (outcome,) = world.run([(job, [world.finishes(job)])])
    assert outcome.status == "done"
    assert world.watch.messages == [f"{job.cell.name}: running on node7; waiting for it"]
    waits = [after - before for before, after in itertools.pairwise(looks)]
    assert waits[4] > 0.16
    assert world.executor.submitted == [job.cell.id]


def test_time_limit_asks_then_kills(world: Any) -> None:
    job = world.job(minutes=0.001)
    outcome = world.run([(job, [hangs])])[0]
    assert outcome.error["kind"] == "Timeout"
    assert "resources.minutes" in outcome.error["hint"]
    assert world.executor.handles[0].asked == ["stop", "terminate", "kill"]


def test_time_in_a_clusters_queue_does_not_count(world: Any) -> None:
    job = world.job(minutes=0.001)
    seen = []

    def queued_long_then_done(handle: FakeHandle) -> int | None:
        seen.append(time.monotonic())
        assert world.watch.begun == []
        if seen[-1] - seen[0] < 0.15:
            return None
        world.store.put(job.cell.id)
        return EXIT_DONE

    queued_long_then_done.queued = True  # type: ignore[attr-defined]
    assert world.run([(job, [queued_long_then_done])])[0].status == "done"
    assert world.executor.handles[0].asked == []


def test_what_an_earlier_scheduler_submitted_is_gone_on_with_and_not_submitted_again(world: Any) -> None:
    job = world.job()
    world.left = {job: world.finishes(job)}
    assert world.run([(job, [])])[0].status == "done"
    assert world.executor.submitted == []
    assert world.executor.closed == 1


def test_what_somebody_took_out_of_the_queue_is_not_submitted_again(world: Any) -> None:
    job = world.job()
    assert world.run([(job, [exits(EXIT_CANCELLED)])])[0].status == "interrupted"


def test_out_of_memory_once_halves_the_micro_batches(world: Any) -> None:
    job = world.job()
    assert world.run([(job, [exits(EXIT_OUT_OF_MEMORY), world.finishes(job)])])[0].status == "done"
    assert [spec.split for spec in world.executor.specs] == [1, 2]
    assert "micro-batches of 4 instead of 8" in world.watch.messages[0]


def test_out_of_memory_twice_is_a_failure(world: Any) -> None:
    job = world.job()
    outcome = world.run([(job, [exits(EXIT_OUT_OF_MEMORY), exits(EXIT_OUT_OF_MEMORY)])])[0]
    assert outcome.error["kind"] == "OutOfMemory"
    assert "accumulate" in outcome.error["hint"]


def test_ctrl_c_stops_and_leaves_the_rest_for_later(world: Any) -> None:
    running, waiting = world.job(name="a"), world.job(name="b")

    def interrupted(handle: FakeHandle) -> int | None:
        world.scheduler.interrupts = 1
        return EXIT_CHECKPOINTED if handle.asked else None

    outcomes = world.run([(running, [interrupted]), (waiting, [])], slots=1)
    assert [o.status for o in outcomes] == ["interrupted", "interrupted"]
    assert world.executor.submitted == [running.cell.id]


def test_second_ctrl_c_kills(world: Any) -> None:
    job = world.job()

    def deaf(handle: FakeHandle) -> int | None:
        world.scheduler.interrupts += 1
        return None

    assert world.run([(job, [deaf])])[0].status == "interrupted"


def test_events_reach_the_observer(world: Any) -> None:
    job = world.job()

    def talks(handle: FakeHandle) -> int:
        (job.spec.run_dir / "events.jsonl").write_text('{"event": "step", "step": 3}\n')
        world.store.put(job.cell.id)
        return EXIT_DONE

    world.run([(job, [talks])])
    assert world.watch.events == [{"event": "step", "step": 3}]


def test_deaths_in_words() -> None:
    assert death(-9) == "was killed by SIGKILL"
    assert death(255) == "was lost (exit code 255)"
    assert death(-200) == "was killed by signal 200"


def test_time_back_in_a_clusters_queue_does_not_count_either(world: Any) -> None:
    """A pre-empted cell waits for its next allocation: the limit is that of one attempt."""
    job = world.job(minutes=0.002)
    begun = time.monotonic()

    def pre_empted_then_done(handle: FakeHandle) -> int | None:
        handle.queued = 0.05 < time.monotonic() - begun < 0.3
        if time.monotonic() - begun < 0.35:
            return None
        world.store.put(job.cell.id)
        return EXIT_DONE

    assert world.run([(job, [pre_empted_then_done])])[0].status == "done"
    assert world.executor.handles[0].asked == []


def test_a_third_ctrl_c_waits_for_nobody(world: Any) -> None:
    job = world.job()

    def immortal(handle: FakeHandle) -> int | None:
        world.scheduler.interrupts += 1
        handle.killed = False  # a cluster that does not answer
        return None

    outcome = world.run([(job, [immortal])])[0]
    assert outcome.status == "interrupted"
    assert world.executor.closed == 1


def test_an_old_error_is_not_told_as_the_reason_of_a_new_death(world: Any) -> None:
    job = world.job()
    job.spec.run_dir.mkdir(parents=True)
    write_json(job.spec.run_dir / "error.json", {"message": "last week's", "exit_code": 1})
    assert "exit code 1" in world.run([(job, [exits(EXIT_FAILED)])])[0].error["message"]
