"""Losses that are other losses at certain parameters, in every bit: their runs may share a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_PLAIN = {"label_smoothing": 0.0}


class Identity(NamedTuple):
    """The loss `name`, its parameters as in `where`, is the loss `same` with `params` and its own `kept` ones."""

    name: str
    where: Mapping[str, Any]
    same: str
    params: Mapping[str, Any]
    kept: tuple[str, ...] = ()


#: Each is tested in every bit of value and gradient: tests/verification/test_identities.py.
IDENTITIES: tuple[Identity, ...] = (
    Identity("ce_control", {"random_stream": "kept", "batchnorm": "kept"}, "ce", _PLAIN),
    Identity("focal", {"gamma": 0.0, "alpha": 1.0}, "ce", _PLAIN),
    Identity("poly1", {"epsilon": 0.0}, "ce", _PLAIN),
    Identity("topk_ce", {"k": 100.0}, "ce", _PLAIN),
    Identity("ohem_ce", {"threshold": 1.0}, "ce", _PLAIN),
    Identity("balanced_softmax", {}, "logit_adjusted", {"tau": 1.0}),
    Identity("logit_adjusted", {"tau": 0.0}, "ce", _PLAIN),
    Identity("ldam", {"margin": 0.0, "scale": 1.0}, "ce", _PLAIN),
    Identity("seesaw", {"p": 0.0, "q": 0.0}, "ce", _PLAIN),
    Identity("cdfl", {"omega": 0.0}, "ce", _PLAIN),
    Identity("uce", {"alpha": 0.0}, "ce", _PLAIN),
    Identity("boundary", {"alpha": 0.0, "base": "ce"}, "ce", _PLAIN),
    Identity("boundary", {"alpha": 0.0, "base": "generalised_dice"}, "generalised_dice", {}),
    Identity("focal_tversky", {"gamma": 1.0}, "tversky", {}, kept=("alpha", "beta")),
    Identity("tversky", {"alpha": 0.5, "beta": 0.5}, "dice", {}),
    Identity("tversky", {"alpha": 1.0, "beta": 1.0}, "jaccard", {}),
)


#: Named sums: their terms, each with the parameter that is its weight and what is passed on to it.
_SUMS: Mapping[str, tuple[tuple[str, str, Mapping[str, Any]], ...]] = {
    "ce_dice": (("ce", "ce_weight", _PLAIN), ("dice", "dice_weight", {})),
    "ce_lovasz": (("ce", "ce_weight", _PLAIN), ("lovasz_softmax", "lovasz_weight", {"method": "exact", "bins": 4096})),
    "dice_focal": (("dice", "dice_weight", {}), ("focal", "focal_weight", {"alpha": 1.0})),
}


def canonical_loss(loss: Mapping[str, Any]) -> Mapping[str, Any]:
    """The loss of a cell, {name, params}, by the plainest of its names."""
    given = loss["params"]
    for name, where, same, params, kept in IDENTITIES:
        if loss["name"] == name and all(given.get(key) == value for key, value in where.items()):
            return canonical_loss({"name": same, "params": {**params, **{key: given.get(key) for key in kept}}})
    if loss["name"] in _SUMS:
        return {"name": "sum", "params": {"terms": [_term(*term, given) for term in _SUMS[loss["name"]]]}}
    return loss


def _term(name: str, weight: str, params: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    own = {"gamma": given.get("gamma")} if name == "focal" else {}
    return {"name": name, "weight": given.get(weight), **params, **own}
