"""Batches: training batches as a pure function of (key, step), evaluation batches at native size."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossbench.data.augment import apply, sample_params
from lossbench.data.cache import CachedSplit
from lossbench.data.randomness import generator
from lossbench.protocol import Protocol

#: ImageNet statistics of RGB in 0..1, what pre-trained encoders expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class TrainBatches:
    """Augmented training batches. `batch(step)` depends on nothing but the data, the protocol, `key` and `step`: a
    resumed run goes on bit for bit, and runs that share a key see the same crops in the same order.

    Args:
        split: the decoded training split.
        protocol: crop, scale, flip, jitter and batch_size are used.
        key: names the random stream; the harness passes the cell's fairness key, which has no loss in it.
        positions: make only the images at these positions of every batch; None: all. They are the same images.
    """

    def __init__(
        self, split: CachedSplit, protocol: Protocol, *, key: str, positions: Sequence[int] | None = None
    ) -> None:
        self.split = split
        self.protocol = protocol
        self.key = key
        self.positions = range(protocol.batch_size) if positions is None else positions
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __reduce__(self) -> tuple[object, ...]:
        return _train_batches, (self.split, self.protocol, self.key, self.positions)

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        return generator(self.key, "order", epoch).permutation(len(self.split))

    def indices(self, step: int) -> list[int]:
        """All images of a step (0, 1, ...). Every epoch is one permutation; a batch may span two epochs."""
        first = step * self.protocol.batch_size
        samples = range(first, first + self.protocol.batch_size)
        return [int(self._order(k // len(self.split))[k % len(self.split)]) for k in samples]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images uint8 (N, 3, h, w) in channels-last memory and targets uint8 (N, h, w), (h, w) = protocol.crop: bytes,
        for a device widens them faster than it is sent eight times as many."""
        size = (self.protocol.crop[0], self.protocol.crop[1])
        count = len(self.positions)
        images = torch.empty((count, 3, *size), dtype=torch.uint8, memory_format=torch.channels_last)
        targets = torch.empty((count, *size), dtype=torch.uint8)
        indices = self.indices(step)
        for row, position in enumerate(self.positions):
            index = indices[position]
            rng = generator(self.key, "augment", step * self.protocol.batch_size + position)
            params = sample_params(rng, self.split.size(index), self.protocol)
            apply(
                self.split.image(index),
                self.split.target(index),
                params,
                ignore_index=self.split.ignore_index,
                out=(images[row], targets[row]),
            )
        return images, targets


def _train_batches(split: CachedSplit, protocol: Protocol, key: str, positions: Sequence[int]) -> TrainBatches:
    return TrainBatches(split, protocol, key=key, positions=positions)


def prefetch(
    batches: TrainBatches, start: int, stop: int, *, depth: int = 2, workers: int = 1, pin: bool = False
) -> Generator[tuple[Tensor, Tensor]]:
    """`batches.batch(step)` for step in start..stop-1, in order, made up to `depth` steps ahead by background
    threads. An exception is raised where its batch is due; when the consumer stops, the threads do.

    Args:
        pin: in page-locked memory, from which `.to(device, non_blocking=True)` copies to a CUDA device while the host
            goes on; torch's host allocator keeps a block until the copies out of it are done.
    """

    def make(step: int) -> tuple[Tensor, Tensor]:
        images, targets = batches.batch(step)
        return (images.pin_memory(), targets.pin_memory()) if pin else (images, targets)

    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="batches")
    pending: deque[Future[tuple[Tensor, Tensor]]] = deque()
    try:
        upcoming = start
        for _ in range(start, stop):
            while upcoming < stop and len(pending) < max(1, depth):
                pending.append(pool.submit(make, upcoming))
                upcoming += 1
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def normalise(images: Tensor) -> Tensor:
    """uint8 (N, 3, H, W) to float32, ImageNet mean 0 and standard deviation 1; keeps device and memory format."""
    if not images.is_contiguous(memory_format=torch.channels_last):
        mean, std = _statistics(images.device, 1)
        return images.float().sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))
    # The same numbers row by row: arithmetic along three colors is six times slower than along a row of them.
    number, channels, height, width = images.shape
    mean, std = _statistics(images.device, width)
    rows = images.permute(0, 2, 3, 1).reshape(number, height, width * channels).float().sub_(mean).div_(std)
    return rows.view(number, height, width, channels).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _statistics(device: torch.device, width: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation on the scale 0..255 of `width` pixels, (3 * width); kept, for a copy to a GPU waits
    for it."""
    mean, std = 255 * torch.tensor(IMAGENET_MEAN, device=device), 255 * torch.tensor(IMAGENET_STD, device=device)
    return mean.repeat(width), std.repeat(width)


def eval_batches(
    split: CachedSplit,
    *,
    batch_size: int = 8,
    max_pixels: int = 1 << 20,
    indices: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Every image once, in order, unscaled: (indices, images uint8 (N, 3, H, W), targets uint8 (N, H, W)).

    Args:
        split: the decoded split.
        batch_size: most images a batch; only neighbours of equal size share one.
        max_pixels: most pixels N*H*W a batch, which bounds the memory of the logits; one image always passes.
        indices: only these images.
    """
    for group in eval_groups(split, batch_size=batch_size, max_pixels=max_pixels, indices=indices):
        yield native(split, group)


def eval_groups(
    split: CachedSplit,
    *,
    batch_size: int = 8,
    max_pixels: int = 1 << 20,
    indices: Sequence[int] | None = None,
) -> Iterator[list[int]]:
    """The indices of the images of each batch; see `eval_batches`."""
    group: list[int] = []
    for index in range(len(split)) if indices is None else indices:
        height, width = split.size(index)
        full = len(group) >= batch_size or (len(group) + 1) * height * width > max_pixels
        if group and (full or split.size(group[0]) != (height, width)):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def native(split: CachedSplit, group: list[int]) -> tuple[list[int], Tensor, Tensor]:
    """The batch of these images, all of one size: as in `eval_batches`."""
    images = torch.from_numpy(np.stack([split.image(index) for index in group])).permute(0, 3, 1, 2)
    targets = torch.from_numpy(np.stack([split.target(index) for index in group]))
    return group, images, targets
