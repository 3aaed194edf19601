"""Losses that `verify` takes for one are one in every bit; others keep their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lossbench.registry import Registry
from lossbench.verification.identities import IDENTITIES, Identity, canonical_loss
from tests.losses.batches import batch, noisy, value_and_grad

LOSSES = Registry("loss")
FACTS = {"num_classes": 4, "class_counts": [70_000, 20_000, 900, 11], "ignore_index": 255}


def value_and_gradient(name: str, params: Mapping[str, Any], seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    logits, target = batch(seed, dtype=dtype)
    loss = LOSSES.get(name).build(params, **FACTS)
    passes = iter(noisy(logits, passes=10))
    if getattr(loss, "extra_forwards", 0):
        return value_and_grad(lambda z: loss(z, target, lambda: next(passes)), logits)
    return value_and_grad(lambda z: loss(z, target), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("identity", IDENTITIES, ids=str)
def test_both_are_one_loss_in_every_bit(identity: Identity, dtype: torch.dtype) -> None:
    params = LOSSES.get(identity.name).resolve(identity.where)
    others = {**identity.params, **{key: params[key] for key in identity.kept}}
    assert LOSSES.get(identity.same).resolve(others) == others  # as a cell has them: all
    for seed in range(3):
        value, gradient = value_and_gradient(identity.name, params, seed, dtype)
        other, other_gradient = value_and_gradient(identity.same, others, seed, dtype)
        assert torch.equal(value, other)
        assert torch.equal(gradient, other_gradient)


@pytest.mark.parametrize(
    ("name", "params"),
    [("ce_dice", {"dice_weight": 0.3}), ("ce_lovasz", {}), ("dice_focal", {"focal_weight": 2.0, "gamma": 0.5})],
)
def test_named_sums_are_sums(name: str, params: dict[str, Any]) -> None:
    named = of(name, **params)
    plain = canonical_loss(named)
    assert plain["name"] == "sum"
    assert LOSSES.get("sum").resolve(plain["params"]) == plain["params"]
    for one, other in zip(
        value_and_gradient(name, named["params"], 0, torch.float32),
        value_and_gradient("sum", plain["params"], 0, torch.float32),
        strict=True,
    ):
        assert torch.equal(one, other)


def of(name: str, **params: Any) -> Mapping[str, Any]:
    return {"name": name, "params": LOSSES.get(name).resolve(params)}


def test_identities_chain() -> None:
    assert canonical_loss(of("focal_tversky", gamma=1, alpha=0.5, beta=0.5)) == of("dice")
    assert canonical_loss(of("focal_tversky", gamma=1, alpha=1, beta=1)) == of("jaccard")
    assert canonical_loss(of("focal_tversky", gamma=1, alpha=0.2, beta=0.5)) == of("tversky", alpha=0.2, beta=0.5)
    assert canonical_loss(of("balanced_softmax")) == of("logit_adjusted")


@pytest.mark.parametrize("name", [plugin.name for plugin in LOSSES if not plugin.term_parameters])
def test_a_loss_at_its_defaults_is_itself(name: str) -> None:
    renamed = {"balanced_softmax": "logit_adjusted", "ce_control": "ce", "ce_dice": "sum", "ce_lovasz": "sum"}
    renamed["dice_focal"] = "sum"
    assert canonical_loss(of(name))["name"] == renamed.get(name, name)


def test_unknown_losses_are_themselves() -> None:
    theirs = {"name": "theirs", "params": {"gamma": 0.0}}
    assert canonical_loss(theirs) is theirs
