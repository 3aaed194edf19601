"""Cells: identity is what defines the number, labels and locations are not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.cells import Cell, Component, canonical_json, identity_hash, short_hash
from lossbench.protocol import Protocol

CELL = Cell(
    Component("streets", {"imbalance": 100.0}),
    Component("net", {"weights": "none"}),
    Component("focal", {"gamma": 2.0, "alpha": 1.0}, ("gamma",)),
    0,
    Protocol(iterations=10),
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("ab'\"\\é漢\n", max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
params = st.dictionaries(st.text("abc", min_size=1, max_size=3), values, max_size=3)


def test_the_id_is_a_fixed_function_of_the_cell() -> None:
    # Records of every earlier version are found by this number: it may change with PROTOCOL's fields only.
    assert short_hash({"b": [1, 2.5, None], "a": "x"}) == "ce74053d7a9997b7"
    assert len(CELL.id) == 16
    assert CELL.id == short_hash(CELL.identity)


def test_later_protocol_fields_leave_the_ids_of_older_cells() -> None:
    """Nor are such fields free to change a number in silence: away from its default one makes another cell."""
    assert CELL.id == "94cfeaad0dc3a63a"
    assert "compile" not in CELL.identity["protocol"]
    compiled = replace(CELL, protocol=Protocol(iterations=10, compile=True))
    assert compiled.identity["protocol"] == CELL.identity["protocol"] | {"compile": True}
    assert compiled.id != CELL.id
    assert "sync_batchnorm" not in CELL.identity["protocol"]
    assert replace(CELL, protocol=Protocol(iterations=10, sync_batchnorm=True)).id != CELL.id
    assert Cell.from_json(json.loads(json.dumps(compiled.to_json()))) == compiled


@pytest.mark.parametrize(
    "other",
    [
        replace(CELL, seed=1),
        replace(CELL, loss=Component("focal", {"gamma": 5.0, "alpha": 1.0})),
        replace(CELL, backbone=Component("net", {"weights": "imagenet"})),
        replace(CELL, dataset=Component("streets", {"imbalance": 10.0})),
        replace(CELL, protocol=Protocol(iterations=11)),
    ],
)
def test_what_defines_the_number_defines_the_id(other: Cell) -> None:
    assert other.id != CELL.id


def test_what_was_spelled_out_is_presentation_only() -> None:
    assert replace(CELL, loss=Component("focal", {"alpha": 1.0, "gamma": 2.0}, ("alpha",))).id == CELL.id


def test_names_and_labels() -> None:
    assert CELL.name == "streets/net/focal(gamma=2)/seed0"
    assert Component("cdfl", {"omega": 1e-3, "passes": 5}, ("omega", "passes")).label == "cdfl(omega=0.001, passes=5)"
    assert Component("f", {"w": [0.25, 0.5]}, ("w",)).label == "f(w=[0.25,0.5])"
    assert Component("f", {"w": [0.125] * 19}, ("w",)).label == "f(w=[19 values])"
    assert Component("n", {"weights": Path("/some/where/net.pt")}, ("weights",)).label == "n(weights=net.pt)"


def test_losses_share_the_fairness_key_and_nothing_else_does() -> None:
    focal, ce = CELL, replace(CELL, loss=Component("ce"))
    assert focal.fairness_key == ce.fairness_key
    assert replace(CELL, seed=1).fairness_key != CELL.fairness_key
    assert replace(CELL, dataset=Component("streets", {"imbalance": 1.0})).fairness_key != CELL.fairness_key


@settings(deadline=None)
@given(params, params, st.integers(0, 2**32 - 1))
def test_a_cell_survives_json(dataset: dict[str, Any], loss: dict[str, Any], seed: int) -> None:
    cell = replace(CELL, dataset=Component("d", dataset), loss=Component("l", loss, tuple(loss)), seed=seed)
    back = Cell.from_json(json.loads(json.dumps(cell.to_json())))
    assert back == cell
    assert (back.id, back.name, back.fairness_key) == (cell.id, cell.name, cell.fairness_key)


@settings(deadline=None)
@given(values)
def test_canonical_json_is_json_and_one_text_per_value(value: Any) -> None:
    text = canonical_json({"b": value, "a": value})
    assert text == canonical_json({"a": value, "b": value})
    assert json.loads(text) == {"a": value, "b": value}


def test_what_has_no_identity_is_refused() -> None:
    with pytest.raises(ValueError):
        canonical_json({"a": math.nan})
    with pytest.raises(TypeError, match="set has no place"):
        canonical_json({"a": {1}})


def test_a_file_is_its_content_and_a_folder_a_mere_place(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt", "c.pt"):
        (tmp_path / name).write_text("other" if name == "c.pt" else "same")

    def with_weights(path: Path) -> str:
        return replace(CELL, backbone=Component("net", {"weights": path})).id

    assert with_weights(tmp_path / "a.pt") == with_weights(tmp_path / "b.pt")
    assert with_weights(tmp_path / "a.pt") != with_weights(tmp_path / "c.pt")
    assert with_weights(tmp_path) == with_weights(tmp_path.parent)


def test_a_cell_with_a_path_survives_json(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_text("weights")
    cell = replace(CELL, backbone=Component("net", {"weights": tmp_path / "net.pt"}))
    assert Cell.from_json(json.loads(json.dumps(cell.to_json()))).id == cell.id


def test_a_title_stands_for_all_parameters() -> None:
    component = Component("folder", {"title": "my scans", "path": Path("x"), "classes": ["a"]}, ("title", "path"))
    assert component.label == "my scans"


@pytest.mark.parametrize(
    "more", [{}, {"seed": 2**70}, {"seed": True}, {"zeta": 1}, {"protocol": {"lr": 1e-05, "é": [1, None]}}]
)
def test_the_hash_of_a_read_identity_is_the_hash_of_any_value(more: dict[str, object]) -> None:
    identity = {**CELL.identity, **more}
    assert identity_hash(identity) == short_hash(identity)
