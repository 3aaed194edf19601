from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from lossbench.data.batches import IMAGENET_MEAN, IMAGENET_STD, TrainBatches, eval_batches, normalise, prefetch
from lossbench.data.cache import CachedSplit
from lossbench.data.randomness import generator
from lossbench.protocol import Protocol
from tests.data.splits import SIZES, cached

PROTOCOL = Protocol(crop=[10, 12], batch_size=3, jitter=0.3)


@pytest.fixture
def split(tmp_path: Path) -> CachedSplit:
    return cached(tmp_path)


def test_batch_is_a_pure_function_of_key_and_step(split: CachedSplit) -> None:
    one, two = TrainBatches(split, PROTOCOL, key="k"), TrainBatches(split, PROTOCOL, key="k")
    forward = [one.batch(step) for step in range(6)]
    for step in reversed(range(6)):
        for a, b in zip(forward[step], two.batch(step), strict=True):
            assert torch.equal(a, b)
    resumed = pickle.loads(pickle.dumps(one))
    assert torch.equal(resumed.batch(4)[0], forward[4][0])
    other = TrainBatches(split, PROTOCOL, key="other").batch(0)[0]
    assert not torch.equal(other, forward[0][0])


def test_some_positions_are_the_same_images(split: CachedSplit) -> None:
    whole = TrainBatches(split, PROTOCOL, key="k")
    some = pickle.loads(pickle.dumps(TrainBatches(split, PROTOCOL, key="k", positions=[2, 0])))
    for step in range(3):
        for a, b in zip(some.batch(step), whole.batch(step), strict=True):
            assert torch.equal(a, b[[2, 0]])


def test_shapes_types_and_memory(split: CachedSplit) -> None:
    images, targets = TrainBatches(split, PROTOCOL, key="k").batch(0)
    assert (images.shape, images.dtype) == ((3, 3, 10, 12), torch.uint8)
    assert (targets.shape, targets.dtype) == ((3, 10, 12), torch.uint8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert set(targets.unique().tolist()) <= {0, 1, 2, 255}


def test_every_epoch_is_a_permutation_and_batches_span_epochs(split: CachedSplit) -> None:
    batches = TrainBatches(split, PROTOCOL, key="k")
    order = [index for step in range(10) for index in batches.indices(step)]
    epochs = [order[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_global_random_state_is_neither_read_nor_moved(split: CachedSplit) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = TrainBatches(split, PROTOCOL, key="k").batch(0)[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(TrainBatches(split, PROTOCOL, key="k").batch(0)[0], first)


def test_generator_streams() -> None:
    assert generator("a", 1).random() == generator("a", 1).random()
    assert generator("a", 1).random() != generator("a", 2).random()
    assert generator("a", 12).random() != generator("a1", 2).random()
    # Pinned: a change would silently change every result that has been published.
    assert generator("lossbench", "augment", 0).integers(0, 2**32, 3).tolist() == [4153011725, 3805633759, 1472188831]


@pytest.mark.parametrize(("depth", "workers"), [(1, 1), (2, 1), (5, 2)])
def test_prefetch_yields_the_same_in_order(split: CachedSplit, depth: int, workers: int) -> None:
    batches = TrainBatches(split, PROTOCOL, key="k")
    ahead = list(prefetch(batches, 2, 9, depth=depth, workers=workers))
    assert len(ahead) == 7
    for step, (images, targets) in enumerate(ahead, start=2):
        expected = batches.batch(step)
        assert torch.equal(images, expected[0])
        assert torch.equal(targets, expected[1])
    assert list(prefetch(batches, 3, 3)) == []


def test_prefetch_pins_on_request(split: CachedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor.clone(memory_format=torch.preserve_format))
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batches = TrainBatches(split, PROTOCOL, key="k")
    list(prefetch(batches, 0, 2))
    assert not pinned
    (images, targets), _ = prefetch(batches, 0, 2, pin=True)
    assert [id(tensor) for tensor in pinned[:2]] == [id(images), id(targets)]
    assert torch.equal(images, batches.batch(0)[0])
    assert images.is_contiguous(memory_format=torch.channels_last)


class Failing(TrainBatches):
    made: int = 0

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        self.made += 1
        if step == 3:
            raise OSError("disk gone")
        return super().batch(step)


def test_prefetch_raises_where_the_batch_is_due(split: CachedSplit) -> None:
    stream = prefetch(Failing(split, PROTOCOL, key="k"), 0, 10, depth=4)
    seen = [next(stream) for _ in range(3)]
    with pytest.raises(OSError, match="disk gone"):
        next(stream)
    assert torch.equal(seen[2][0], TrainBatches(split, PROTOCOL, key="k").batch(2)[0])


def test_prefetch_stops_with_its_consumer(split: CachedSplit) -> None:
    batches = Failing(split, PROTOCOL, key="k")
    stream = prefetch(batches, 10, 10_000, depth=3)
    next(stream)
    stream.close()
    made = batches.made
    assert made <= 5, "only `depth` ahead"
    time.sleep(0.05)
    assert batches.made == made
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_normalise_gives_the_same_bits_in_both_memory_formats() -> None:
    planes = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    pixels = planes.contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalise(planes), normalise(pixels))
    assert normalise(planes).is_contiguous()
    assert normalise(pixels).is_contiguous(memory_format=torch.channels_last)


def test_normalise() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    out = normalise(images)
    expected = (before.double() / 255 - torch.tensor(IMAGENET_MEAN).view(3, 1, 1).double()) / torch.tensor(
        IMAGENET_STD
    ).view(3, 1, 1).double()
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(images, before)


def test_eval_batches_cover_everything_at_native_size(split: CachedSplit) -> None:
    groups = []
    for indices, images, targets in eval_batches(split):
        groups.append(indices)
        for position, index in enumerate(indices):
            assert tuple(targets.shape[1:]) == SIZES[index]
            assert (images[position].permute(1, 2, 0).numpy() == split.image(index)).all()
            assert (targets[position].numpy() == split.target(index)).all()
        assert images.dtype == targets.dtype == torch.uint8
    assert groups == [[0, 1], [2], [3, 4]], "neighbours of one size share a batch"


def test_eval_batches_respect_their_limits(split: CachedSplit) -> None:
    assert [i for i, _, _ in eval_batches(split, batch_size=1)] == [[0], [1], [2], [3], [4]]
    assert [i for i, _, _ in eval_batches(split, max_pixels=300)] == [[0], [1], [2], [3], [4]]
    assert [i for i, _, _ in eval_batches(split, indices=[4, 0, 2])] == [[4, 0], [2]]
