import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench import metrics
from lossbench.training import confusion
from lossbench.training.confusion import confusion_matrices, image_counts


@settings(max_examples=40, deadline=None)
@given(
    classes=st.one_of(st.integers(2, 150), st.sampled_from([127, 128, 255])),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([torch.uint8, torch.int16, torch.int32, torch.int64]),
)
def test_matrices_equal_numpys_with_ignored_pixels(classes: int, images: int, seed: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (images, 7, 5))
    target[rng.random(target.shape) < 0.3] = 255
    prediction = rng.integers(0, classes, target.shape)
    labels = torch.from_numpy(target).to(dtype)
    before = labels.clone()
    ours = confusion_matrices(labels, torch.from_numpy(prediction), classes)
    assert torch.equal(labels, before)
    for image in range(images):
        expected = metrics.confusion_matrix(target[image], prediction[image], classes)
        np.testing.assert_array_equal(ours[image].numpy(), expected)
    np.testing.assert_array_equal(image_counts(ours).numpy(), metrics.counts_per_image(ours.numpy()))


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_both_ways_of_counting_agree(dtype: torch.dtype) -> None:
    index = torch.randint(0, 600, (3, 500), generator=torch.Generator().manual_seed(0)).to(dtype)
    counted = confusion._count_atomically(index, 600)
    assert torch.equal(counted, confusion._count_serially(index, 600))
    assert counted.dtype == torch.int64


def test_all_ignored_is_an_empty_matrix() -> None:
    target = torch.full((1, 4, 4), 255, dtype=torch.uint8)
    assert confusion_matrices(target, torch.zeros(1, 4, 4, dtype=torch.int64), 3).sum() == 0
