"""A label fits if and only if `Component.label` could have made it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossbench.cells import Component
from lossbench.verification.labels import label_fits

VALUES = st.one_of(
    st.integers(-5, 5), st.floats(0, 1e6), st.booleans(), st.none(), st.sampled_from(["a", "a, b", "x=1", "sum(a)"]),
    st.lists(st.integers(0, 3), max_size=9),
)  # fmt: skip
PARAMS = st.dictionaries(st.sampled_from(["gamma", "alpha", "omega"]), VALUES)


def terms(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    term = st.builds(lambda params, weight: {"name": "focal", "weight": weight, **params}, inner, st.floats(0, 9))
    return st.builds(lambda items: {"terms": items}, st.lists(term, min_size=1, max_size=3))


@given(params=PARAMS | terms(PARAMS) | terms(terms(PARAMS)), data=st.data())
def test_every_label_fits(params, data):
    given_names = list(params)
    for number, term in enumerate(params.get("terms", ())):
        given_names += [f"terms.{number}.{key}" for key in term if key not in ("name", "weight")]
    chosen = data.draw(st.lists(st.sampled_from(given_names), unique=True)) if given_names else []
    component = Component("loss", params, tuple(chosen))
    assert label_fits(component.label, "loss", params)


@pytest.mark.parametrize(
    ("label", "fits"),
    [
        ("focal", True), ("focal(gamma=2)", True), ("focal(alpha=0.75, gamma=2)", True), ("focal(gamma=3)", False),
        ("focal(gamma=2", False), ("focal(gamma=2) ", False), ("focal()", False), ("focal(beta=2)", False),
        ("focal2", False), ("", False), ("ce", False), ("focal(gamma=2, )", False),
    ],
)  # fmt: skip
def test_labels(label, fits):
    assert label_fits(label, "focal", {"gamma": 2.0, "alpha": 0.75}) == fits


def test_sums_titles_and_files():
    terms = [{"name": "ce", "weight": 0.8}, {"name": "focal", "weight": 0.2, "gamma": 5.0}]
    for label, fits in (
        ("sum(0.8 ce + 0.2 focal(gamma=5))", True), ("sum(0.8 ce + 0.2 focal)", True), ("sum(0.8 ce)", False),
        ("sum(0.2 ce + 0.8 focal)", False), ("sum", True),
    ):  # fmt: skip
        assert label_fits(label, "sum", {"terms": terms}) == fits
    assert label_fits("my roads", "folder", {"title": "my roads"})
    assert label_fits("fcn(weights=best.pt)", "fcn", {"weights": "sha256:0123456789abcdef"})
