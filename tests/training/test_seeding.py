from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.training.seeding import derive_seed, seed_everything

PARTS = st.lists(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False, width=32)))


def test_is_stable_for_ever() -> None:
    """Recorded runs depend on these numbers."""
    assert derive_seed() == 2858069222894195974
    assert derive_seed(0, "crop", 3) == 7553926514574729745


@settings(max_examples=50, deadline=None)
@given(PARTS.map(lambda parts: [p for p in parts if p not in (float("inf"), float("-inf"))]))
def test_fits_63_bits_and_repeats(parts: list[str | int | float | bool | None]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    assert seed == derive_seed(*parts)
    torch.Generator().manual_seed(seed)


def test_order_type_and_grouping_matter() -> None:
    variants = [(1, 2), (2, 1), ("1", 2), ("12",), (12,), (1, 2, None), (1, 2, 0), (1, 2, False), ("1,2",), (1.5, 2)]
    assert len({derive_seed(*parts) for parts in variants}) == len(variants)


def test_steps_do_not_collide() -> None:
    assert len({derive_seed(7, step) for step in range(20_000)}) == 20_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_seed_from_nan(bad: float) -> None:
    with pytest.raises(ValueError):
        derive_seed(bad)


def test_seed_everything_seeds_the_three_generators() -> None:
    def draw(seed: int) -> tuple[float, float, float]:
        seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002

    assert draw(derive_seed("a")) == draw(derive_seed("a"))
    first, second = draw(2**62), draw(2**62 + 1)
    assert all(a != b for a, b in zip(first, second, strict=True))
