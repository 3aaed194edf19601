"""Losses made of losses: how a suite writes their terms, and what the constructor gets.

A constructor with a parameter `terms: list[LossTerm]` takes registered losses. In a suite each is written as

    {name: lovasz_softmax, weight: 0.2, method: histogram}      # weight: 1 where not given

with its own hyper-parameters beside the name. Resolved, a term has all of them, so that the cell's identity is
canonical; built, it is a `LossTerm`. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lossbench.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from lossbench.plugin import Plugin

#: Keys of a term that are not its loss's hyper-parameters.
RESERVED = ("name", "weight")
HINT = "a term is {name: ..., weight: ...} with its loss's parameters beside them"


class LossTerm(NamedTuple):
    """One term as a constructor gets it.

    Attributes:
        loss: an nn.Module; `Any`, because this file is read without torch.
        weight: its factor, finite and at least 0.
        name: what the loss is registered as.
    """

    loss: Any
    weight: float = 1.0
    name: str = ""


def coerce_terms(value: Any) -> list[dict[str, Any]]:
    """Terms as a suite writes them, checked but for the losses' own parameters. Raises ValueError."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError("input should be a list of at least one term")
    terms = []
    for number, term in enumerate(value, 1):
        if not isinstance(term, Mapping) or not isinstance(term.get("name"), str):
            raise ValueError(f"term {number} has no name")
        weight = term.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise ValueError(f"the weight of term {number} is no finite number of at least 0")
        terms.append({**term, "weight": float(weight)})
    return terms


def resolve_terms(owner: Plugin, parameter: str, terms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Terms with every hyper-parameter of their losses filled in and checked.

    Raises:
        ParameterError: an unknown loss, or what its parameters lack; `path` leads from the list to the place.
    """
    resolved = []
    for index, term in enumerate(terms):
        given = {key: value for key, value in term.items() if key not in RESERVED}
        place: tuple[str | int, ...] = (index,)
        try:
            plugin = owner.peer(term["name"])
            taken = next((name for name in RESERVED if name in plugin.params), None)
            if taken is not None:
                raise ConfigError(f"loss '{plugin.name}' has a parameter '{taken}' of its own and cannot be a term")
            own = plugin.resolve(given)
        except ParameterError as error:
            place = (*place, error.parameter, *error.path)
            raise _located(owner, parameter, place, error) from None
        except ConfigError as error:
            raise _located(owner, parameter, (*place, "name"), error) from None
        resolved.append({"name": plugin.name, "weight": term["weight"], **own})
    return resolved


def _located(owner: Plugin, parameter: str, place: tuple[str | int, ...], error: ConfigError) -> ParameterError:
    message = f"{owner.kind} '{owner.name}': {parameter}[{place[0]}]: {error.message}"
    return ParameterError(message, parameter=parameter, hint=error.hint, path=place)


def build_terms(owner: Plugin, terms: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[LossTerm]:
    """The losses of resolved terms, each with those of `facts` that it asks for."""
    return [
        LossTerm(
            owner.peer(term["name"]).build({k: v for k, v in term.items() if k not in RESERVED}, **facts),
            term["weight"],
            term["name"],
        )
        for term in terms
    ]


def parts(plugin: Plugin, params: Mapping[str, Any]) -> Iterator[Plugin]:
    """The plugin and, at any depth, those its terms name. Imports none of them.

    Raises UnknownNameError for a term that is not registered here.
    """
    yield plugin
    for name, terms in params.items():
        if name not in plugin.term_parameters or not isinstance(terms, list):
            continue
        for term in terms:
            if isinstance(term, Mapping) and "name" in term:
                yield from parts(plugin.peer(str(term["name"])), term)


def given_in_terms(parameter: str, terms: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """`terms.1.gamma` for each hyper-parameter a suite spelled out in a term, at any depth of terms in terms."""
    for index, term in enumerate(terms):
        for key, value in term.items():
            if key not in RESERVED:
                yield f"{parameter}.{index}.{key}"
                if isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value):
                    yield from given_in_terms(f"{parameter}.{index}.{key}", value)


def is_terms(value: Any) -> bool:
    """Whether a resolved parameter holds terms."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(t, dict) and t.keys() >= set(RESERVED) for t in value)
    )
