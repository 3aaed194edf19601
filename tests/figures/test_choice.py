from __future__ import annotations

import pytest

from lossbench.errors import ConfigError
from lossbench.figures.choice import MAIN, in_order, label, one_block
from lossbench.leaderboard import build
from lossbench.standings import Block
from lossbench.store import Store
from tests.factories import put


def test_the_reference_comes_first_then_names(block: Block) -> None:
    losses = [row.label for row in in_order(block)]
    assert losses == ["ce", "balanced_ce", "cdfl(omega=0.01)", "df", "focal", "lovasz_softmax"]
    assert [row.label for row in in_order(block, "focal")][:2] == ["focal", "balanced_ce"]


def test_two_protocols_never_share_a_figure(store: Store) -> None:
    put(store, loss="ce", protocol={"lr": 0.5})
    blocks = build(store.runs()[0])
    with pytest.raises(ConfigError, match="2 protocols") as caught:
        one_block(blocks)
    assert "'main' (" in caught.value.message
    assert "'lr 0.5 instead of 0.01' (ce)" in caught.value.message
    assert "--variant" in str(caught.value.hint)
    assert one_block(blocks, MAIN).variant == ""
    assert one_block(blocks, "lr 0.5").variant == one_block(blocks, "lr*").variant == "lr 0.5 instead of 0.01"
    with pytest.raises(ConfigError, match="variant 'momentum'") as caught:
        one_block(blocks, "momentum")
    assert "'lr 0.5 instead of 0.01'" in str(caught.value.hint)


def test_datasets_and_backbones_are_told_apart(store: Store) -> None:
    put(store, dataset_params={"imbalance": 10.0})
    put(store, backbone="smp")
    blocks = build(store.runs()[0])
    with pytest.raises(ConfigError, match="2 datasets"):
        one_block(blocks)
    with pytest.raises(ConfigError, match="2 backbones") as caught:
        one_block(build(store.runs()[0], dataset="streets"), dataset="streets")
    assert "--backbone" in str(caught.value.hint)
    # An exact label is meant as it stands, though as a glob over names it finds both.
    assert one_block(build(store.runs()[0], backbone="fcn_timm"), dataset="streets").dataset == "streets"


def test_marks_of_any_row_are_shown(store: Store) -> None:
    put(store, loss="focal", dataset_params={"imbalance": 10.0}, status="diverged")
    rows = [row for block in build(store.runs()[0], loss="focal") for row in block.rows]
    assert label(*rows) == "focal !"
    assert {label(row) for row in rows} == {"focal", "focal !"}
