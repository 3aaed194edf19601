"""Rules about what must not matter: names of classes, order of images and pixels, a constant on all logits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lossbench.conformance.losses.subject import VOID, LossSubject, random_batch
from lossbench.conformance.report import Check, Rule, close

_RTOL = 1e-5


def class_permutation(subject: LossSubject) -> Iterator[Check]:
    """Renaming the classes, and with them counts and parameters per class, changes nothing."""
    batch = random_batch(subject.classes)
    order = [*range(1, subject.classes), 0]
    new_label = torch.tensor([order.index(label) for label in range(subject.classes)])
    renamed = batch.changed(
        f"classes in the order {order}",
        logits=lambda z: z[:, order],
        target=lambda y: torch.where(y == VOID, VOID, new_label[y.masked_fill(y == VOID, 0)]),
    )
    base = subject.run(batch)
    outcome = subject.run(renamed, subject.build(order=order))
    yield close(renamed.fed, "value", outcome.value, base.value, _RTOL)
    yield close(renamed.fed, "gradient", outcome.grad, base.grad[:, order], _RTOL)


def image_order(subject: LossSubject) -> Iterator[Check]:
    """The order of the images in the batch changes nothing."""
    batch = random_batch(subject.classes, size=(3, 4, 5))
    flipped = batch.changed("images in reverse order", logits=lambda z: z.flip(0), target=lambda y: y.flip(0))
    base, outcome = subject.run(batch), subject.run(flipped)
    yield close(flipped.fed, "value", outcome.value, base.value, _RTOL)
    yield close(flipped.fed, "gradient", outcome.grad.flip(0), base.grad, _RTOL)


def pixel_permutation(subject: LossSubject) -> Iterator[Check]:
    """Shuffling the pixels of every image changes nothing (a spatial loss declares an exception)."""
    batch = random_batch(subject.classes)
    _, height, width = batch.target.shape
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(0))

    def shuffled(tensor: Tensor) -> Tensor:
        return tensor.flatten(-2)[..., order].view_as(tensor)

    other = batch.changed("pixels shuffled", logits=shuffled, target=shuffled)
    base, outcome = subject.run(batch), subject.run(other)
    yield close(other.fed, "value", outcome.value, base.value, _RTOL)
    yield close(other.fed, "gradient", outcome.grad, shuffled(base.grad), _RTOL)


def shift(subject: LossSubject) -> Iterator[Check]:
    """A constant added to all logits of a pixel changes nothing (a loss without softmax declares an exception)."""
    batch = random_batch(subject.classes, dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    constant = 10 * torch.randn(*batch.logits[:, :1].shape, generator=generator, dtype=torch.float64)
    other = batch.changed("a constant added to all logits of a pixel", logits=lambda z: z + constant)
    base, outcome = subject.run(batch), subject.run(other)
    yield close(other.fed, "value", outcome.value, base.value, 1e-9)
    yield close(other.fed, "gradient", outcome.grad, base.grad, 1e-9)


INVARIANCE_RULES: tuple[Rule, ...] = (class_permutation, image_order, pixel_permutation, shift)
