"""What a machine has is shared out without overlap, and given back whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench.execution.base import Place, Request
from lossbench.execution.capacity import Capacity, machine

GPUS = ("cuda:0", "cuda:1")


def gpus(count: int = 2, cores: int = 16, **options: float) -> Capacity:
    return Capacity([f"cuda:{i}" for i in range(count)], 16 * count, cores=cores, **options)  # type: ignore[arg-type]


def test_without_a_word_one_cell_takes_one_gpu() -> None:
    capacity = gpus()
    places = [capacity.reserve(Request()) for _ in range(3)]
    assert [place and place.devices for place in places] == [("cuda:0",), ("cuda:1",), None]


def test_slots_per_device_share_it() -> None:
    capacity = gpus(1, slots_per_device=3)
    places = [capacity.reserve(Request()) for _ in range(4)]
    assert [place is not None for place in places] == [True, True, True, False]


def test_fractions_are_packed_best_fit_so_that_whole_gpus_stay_whole() -> None:
    capacity = gpus()
    first, second = capacity.reserve(Request(gpus=0.5)), capacity.reserve(Request(gpus=0.5))
    assert first is not None
    assert second is not None
    assert first.devices == second.devices == ("cuda:0",)
    whole = capacity.reserve(Request(gpus=1))
    assert whole is not None
    assert whole.devices == ("cuda:1",)


def test_several_gpus_for_one_cell() -> None:
    capacity = gpus()
    place = capacity.reserve(Request(gpus=2, cpus=8))
    assert place == Place(GPUS, 8)
    assert capacity.reserve(Request(gpus=0.25)) is None
    assert capacity.reserve(Request(gpus=0)) == Place(("cpu",), 1)
    capacity.release(place)
    assert capacity.reserve(Request(gpus=0.25)) is not None


def test_cores_and_memory_are_shared_out_too() -> None:
    capacity = gpus(2, cores=6, memory_gb=32.0)
    first = capacity.reserve(Request(gpus=0.1, cpus=4, memory_gb=20))
    assert first is not None
    assert capacity.reserve(Request(gpus=0.1, cpus=4)) is None
    assert capacity.reserve(Request(gpus=0.1, cpus=2, memory_gb=20)) is None
    assert capacity.reserve(Request(gpus=0.1, cpus=2, memory_gb=12)) is not None


def test_on_a_cpu_a_gpu_is_a_process() -> None:
    capacity = Capacity(["cpu"], 2, cores=2)
    assert capacity.reserve(Request(gpus=0.5)) == Place(("cpu",), 1)  # a share of a GPU, where there is none: one slot
    place = Capacity(["cpu"], 2, cores=2).reserve(Request(gpus=2))
    assert place == Place(("cpu", "cpu"), 2)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Request(gpus=4), "asks for 4 GPUs; there are 2"),
        (Request(cpus=17), "asks for 17 CPU cores; there are 16"),
        (Request(memory_gb=65.0), "asks for 65 GB of memory; there are 64"),
        (Request(gpus=2, cpus=16, memory_gb=64.0), None),
    ],
)
def test_what_never_fits_is_refused_in_words(request_: Request, words: str | None) -> None:
    assert gpus(memory_gb=64.0).refuses(request_) == words


def test_a_cpu_refuses_more_devices_than_it_has_slots() -> None:
    assert "there are 2" in (Capacity(["cpu"], 2, cores=2).refuses(Request(gpus=3)) or "")


REQUESTS = st.builds(
    Request,
    gpus=st.sampled_from([None, 0, 0.1, 1 / 3, 0.5, 1, 2]),
    cpus=st.one_of(st.none(), st.integers(1, 8)),
    memory_gb=st.one_of(st.none(), st.floats(0.1, 64)),
)


@given(st.lists(st.tuples(REQUESTS, st.booleans()), max_size=60))
def test_nothing_is_ever_given_twice_and_all_comes_back(steps: list[tuple[Request, bool]]) -> None:
    capacity = gpus(2, cores=8, memory_gb=64.0)
    held: list[tuple[Request, Place]] = []
    for request, release in steps:
        if release and held:
            capacity.release(held.pop(0)[1])
            continue
        place = capacity.reserve(request)
        if place is None:
            continue
        held.append((request, place))
        shares = dict.fromkeys(GPUS, 0.0)
        for wish, got in held:
            for device in got.devices:
                if device != "cpu":
                    shares[device] += min(1.0, 1.0 if wish.gpus is None else wish.gpus)
        assert max(shares.values()) <= 1 + 1e-6
        assert sum(got.threads for _, got in held) <= 8
        assert sum(wish.memory_gb or 0 for wish, _ in held) <= 64.0
    for _, place in held:
        capacity.release(place)
    assert capacity.reserve(Request(gpus=2, cpus=8, memory_gb=64.0)) is not None


def test_threads_of_workers_side_by_side_do_not_oversubscribe() -> None:
    capacity = machine(["cpu"], 100)
    assert capacity.threads * capacity.slots <= capacity._cores
    assert machine(["cpu"], 1).slots == 1
    wished = machine(["cpu"], 100, jobs=3, threads=4)  # who says so gets it
    assert [wished.reserve(Request()) is not None for _ in range(4)] == [True, True, True, False]
