"""Whether records were made by plugin code that is known here: as it is now, or as it once was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lossbench
from lossbench.cells import Component, canonical_json
from lossbench.errors import LossbenchError, UnknownNameError
from lossbench.plugin import Plugin
from lossbench.provenance import code_hash
from lossbench.registry import KINDS, Kind, Registry
from lossbench.verification.facts import Facts
from lossbench.verification.problems import Problem


@cache
def history() -> dict[str, dict[str, list[str]]]:
    """Hashes that the code of each plugin once had, by kind and name; `python -m lossbench.codehistory` makes them."""
    text = files(lossbench).joinpath("code_history.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = json.loads(text)
    return found


def check_code(facts: Facts, told: NDArray[np.bool_], registries: Mapping[Kind, Registry]) -> tuple[list[Problem], int]:
    """Warnings about the records of `told` whose code is not known here, and how many were made by older code that is.
    The hashes of records that were there before are known, too. Imports no plugin."""
    before = set()
    for place in np.unique(facts.rows["made"][~told]).tolist():
        components, hashes, _ = json.loads(facts.texts[place])
        before |= {(kind, components[kind]["name"], _hash(hashes, kind)) for kind in KINDS}
    problems: list[Problem] = []
    older = 0
    rows = np.flatnonzero(told)
    made = facts.rows["made"][rows]
    for place in np.unique(made).tolist():
        found, is_older = _judge(facts.texts[place], registries, before)
        members = rows[made == place].tolist()
        older += len(members) * is_older
        problems += [
            Problem(rule, f"records/{facts.paths[row]}", message, rule == "code")
            for row in members
            for rule, message in found
        ]
    return problems, older


def _judge(
    text: str, registries: Mapping[Kind, Registry], before: set[tuple[Any, ...]]
) -> tuple[list[tuple[str, str]], bool]:
    """(rule, message) of what is wrong with the code that made a record, and whether it is known but not of now."""
    components, hashes, protocol = json.loads(text)
    found: list[tuple[str, str]] = []
    older = protocol != lossbench.PROTOCOL
    for kind in KINDS:
        name, params = components[kind]["name"], components[kind]["params"]
        recorded = _hash(hashes, kind)
        try:
            plugin = registries[kind].get(name)
            now = code_hash(plugin, params)
        except UnknownNameError:
            if (kind, name, recorded) not in before:
                found.append(("code", f"{kind} '{name[:40]}' is not known here: give its file with --plugin"))
            continue
        except (LossbenchError, TypeError, ValueError, KeyError, AttributeError) as error:
            found.append(("cell", f"the parameters of {kind} '{name[:40]}' cannot be: {str(error)[:80]}"))
            continue
        if recorded == now:
            found += [("cell", message) for message in _parameters(plugin, params)]
        elif (kind, name, recorded) in before or recorded in history().get(kind, {}).get(name, ()):
            older = True
        else:
            said = f"the code of {kind} '{name[:40]}' ({recorded[:12]}) is none that is known here"
            found.append(("code", f"{said} (now {now})"))
    return found, older and not found


def _hash(hashes: Any, kind: Kind) -> str:
    """What a record says the code of a plugin was; anything may stand there."""
    return str(hashes.get(kind)) if isinstance(hashes, dict) else ""


def _parameters(plugin: Plugin, params: Mapping[str, Any]) -> Iterator[str]:
    """Whether the parameters are all those of the plugin, spelled as lossbench does. Only where that can be told
    without importing it."""
    if plugin.static_signature is None or any("Path" in param.type_name for param in plugin.params.values()):
        return
    try:
        spelled = Component(plugin.name, plugin.resolve(params)).identity["params"]
    except (LossbenchError, TypeError, ValueError, KeyError, AttributeError) as error:
        yield str(error)[:160]
        return
    if canonical_json(spelled) != canonical_json(params):
        yield f"the parameters of {plugin.kind} '{plugin.name}' are not all spelled out as lossbench does"
