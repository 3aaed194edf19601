"""Who starts next."""

from pathlib import Path

from lossbench.execution.base import Job, Request
from lossbench.execution.queue import PASSES, Queue
from tests.execution.test_scheduler import make_job

ROOT = Path("nowhere")


def job(name: str, seed: int = 0, gpus: float | None = None) -> Job:
    made = make_job(ROOT, name=name, seed=seed)
    made.request = Request(gpus=gpus)
    return made


def taken(queue: Queue, room: float) -> list[str]:
    """One round on a machine with `room` GPUs free."""
    names = []
    for candidate in queue.candidates(0.0):
        size = candidate.request.gpus or 1
        if size <= room:
            room -= size
            queue.remove(candidate)
            names.append(candidate.cell.loss.name)
        else:
            queue.blocked(candidate)
    return names


def test_large_requests_go_first_within_a_seed() -> None:
    queue = Queue()
    for made in (job("small", gpus=0.5), job("late", seed=1, gpus=4), job("large", gpus=2)):
        queue.add(made)
    assert taken(queue, 10) == ["large", "small", "late"]
    assert len(queue) == 0


def test_a_small_cell_passes_a_large_one_that_has_no_room_but_only_so_often() -> None:
    queue = Queue()
    queue.add(job("large", gpus=4))
    for number in range(PASSES + 5):
        queue.add(job(f"small{number}", seed=number))
    passed = [taken(queue, 1) for _ in range(PASSES + 3)]
    assert [len(names) for names in passed] == [1] * PASSES + [0] * 3
    assert taken(queue, 4) == ["large"]
    assert len(taken(queue, 100)) == 5


def test_one_that_ran_already_goes_before_all() -> None:
    queue = Queue()
    queue.add(job("a"))
    queue.add(job("again", seed=5), first=True)
    assert taken(queue, 10) == ["again", "a"]


def test_one_that_must_wait_is_not_tried() -> None:
    queue = Queue()
    later = job("later")
    later.not_before = 10.0
    queue.add(later)
    assert taken(queue, 10) == []
    assert [candidate.cell.loss.name for candidate in queue.candidates(11.0)] == ["later"]


def test_a_full_machine_looks_at_one_of_many_equal_cells() -> None:
    queue = Queue()
    for number in range(1000):
        queue.add(job("ce", seed=number))
    tried = []
    for candidate in queue.candidates(0.0):
        tried.append(candidate)
        queue.blocked(candidate)
    assert len(tried) == 1
