"""The reference of every key of a suite file, from the pydantic models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docsite.examples import EXAMPLES
from docsite.markup import code, inline, sentence, table
from lossbench.protocol import SET_BY_TUNING, Protocol
from lossbench.suite_schema import ComponentSpec, OverrideSpec, Resources, SlurmKeys, SuiteSpec
from lossbench.track_schema import SPECS
from lossbench.tune_schema import DimensionSpec, TuneSpec


@dataclass(frozen=True)
class Section:
    """The keys of one mapping of a suite.

    Attributes:
        path: where they stand, with dots; empty at the top level.
        model: their model.
        note: what a reader must know first, in Markdown.
    """

    path: str
    title: str
    model: type[BaseModel]
    note: str

    @property
    def fields(self) -> dict[str, FieldInfo]:
        """The keys that belong here: Slurm's have a section of their own, and nobody sets what tuning sets."""
        fields = dict(self.model.model_fields)
        if self.model is Resources:
            fields = {name: info for name, info in fields.items() if name not in SlurmKeys.model_fields}
        if self.model is Protocol:
            fields = {name: info for name, info in fields.items() if name not in SET_BY_TUNING}
        return fields

    def anchor(self, key: str) -> str:
        return f"{self.path}.{key}".lstrip(".")


SECTIONS = (
    Section("", "Top level", SuiteSpec, "Three keys are required: `datasets`, `backbones`, `losses`."),
    Section(
        "losses",
        "An entry of datasets, backbones, losses",
        ComponentSpec,
        "A name, or a mapping with `name` and the parameters that [losses](losses.md), [backbones](backbones.md) and "
        "[datasets](datasets.md) take. A list of values is a grid: `{name: cdfl, omega: [0.1, 0.01]}` is two losses. "
        "(Where a list is itself a value, as for `alpha` of `focal`, a grid is a list of lists.)",
    ),
    Section(
        "protocol",
        "protocol",
        Protocol,
        "The same for every loss, unless an override says otherwise. Everything here is part of a cell's identity: "
        "changed, it is another cell, and no record of the old one is shown in its place.",
    ),
    Section(
        "overrides",
        "An entry of overrides",
        OverrideSpec,
        "A loss with a schedule of its own is no longer compared on equal terms: the leaderboard shows it in a table "
        "of its own.",
    ),
    Section(
        "resources",
        "resources",
        Resources,
        "What a cell asks for. None of it changes a result, or a cell's identity. The `resources` of a site file "
        "(`lossbench run --site FILE`) takes the same keys; where both say something, the suite wins.",
    ),
    Section(
        "resources.slurm",
        "resources, for Slurm",
        SlurmKeys,
        "They stand in `resources`, beside the keys above, and mean something on [Slurm](../slurm.md) only. Most "
        "belong into the site file.",
    ),
    Section("tune", "tune", TuneSpec, "[Equal tuning](../tuning.md) says what is made of it."),
    Section(
        "tune.search",
        "An entry of tune.search, or of a loss in tune.losses",
        DimensionSpec,
        "A range, or a list of values.",
    ),
    *(
        Section(f"track.{name}", f"track: {name}", model, "See [trackers](../tracking.md).")
        for name, model in SPECS.items()
    ),
)


def page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for section in SECTIONS:
        parts.append(f"## {section.title} {{ #{section.path or 'top'} }}\n\n{section.note}\n")
        parts.append(table(("Key", "Meaning and example"), _rows(section), "keys"))
    return "\n".join(parts)


def _rows(section: Section) -> list[tuple[str, str]]:
    schema = section.model.model_json_schema(mode="validation")
    rows = []
    for key, info in section.fields.items():
        anchor = section.anchor(key)
        kind = _SAID.get(anchor) or type_words(schema["properties"][key])
        name = f'<a id="{anchor}" href="#{anchor}">{code(key)}</a>'
        default = "required" if info.is_required() else _default(info.get_default(call_default_factory=True))
        meaning = sentence(inline(info.description or ""))
        example = f"<pre>{EXAMPLES[anchor]}</pre>"
        rows.append((f"{name}<br><small>{_linked(kind)}<br>{default}</small>", meaning + example))
    return rows


#: Types that are shorter said than derived.
_SAID = {"track": "a name, a mapping (⟦track.tensorboard|below⟧), or a list of them"}


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "default: the defaults of its keys"
    if value is None:
        return "not set"
    if value in ("", [], {}):
        return "default: empty"
    return f"default {code(_plain(value))}"


def _plain(value: Any) -> str:
    return str(value) if isinstance(value, str) else json.dumps(value)


def type_words(schema: Mapping[str, Any]) -> str:
    """A JSON Schema in a reader's words: `integer > 0`, `list of 2 numbers > 0`, `sgd or adamw`."""
    if "$ref" in schema:
        return _named(schema["$ref"].rpartition("/")[2])
    for options in ("anyOf", "oneOf"):
        if options in schema:
            wanted = [option for option in schema[options] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(type_words(option) for option in wanted))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            low, high = schema.get("minItems"), schema.get("maxItems")
            count = f"{low} " if low and low == high else ""
            return f"list of {count}{_plural(type_words(schema.get('items', {})))}"
        case "object":
            values = schema.get("additionalProperties")
            inner = f" to {type_words(values)}" if isinstance(values, dict) and values else ""
            return f"mapping{' of names' + inner if inner else ''}"
        case "integer" | "number" as name:
            return f"{name}{_bounds(schema)}"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
    return "any value"


def _bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    parts = []
    if low is not None and high is not None:
        return f" in [{low:g}, {high:g}]"
    if above is not None and below is not None:
        return f" between {above:g} and {below:g}"
    if low is not None:
        parts.append(f" ≥ {low:g}")
    if above is not None:
        parts.append(f" > {above:g}")
    if high is not None:
        parts.append(f" ≤ {high:g}")
    if below is not None and below < 2**32:
        parts.append(f" < {below:g}")
    return ",".join(parts)


def _plural(words: str) -> str:
    first, space, rest = words.partition(" ")
    return f"{first}s{space}{rest}" if first in ("integer", "number", "text") else words


def _named(model: str) -> str:
    """A model as a link to its section (see `_linked`), in its plural."""
    if model in _MAPPINGS:
        return f"⟦{_MAPPINGS[model]}|mapping⟧"
    return {
        "ComponentSpec": "⟦losses|entries⟧",
        "OverrideSpec": "⟦overrides|entries⟧",
        "DimensionSpec": "⟦tune.search|range or list⟧",
    }[model]


_MAPPINGS = {"Protocol": "protocol", "Resources": "resources", "TuneSpec": "tune"} | {
    model.__name__: f"track.{name}" for name, model in SPECS.items()
}


def _linked(words: str) -> str:
    """Words of `type_words` as HTML."""
    return re.sub(r"⟦([^|]+)\|([^⟧]+)⟧", r'<a href="#\1">\2</a>', inline(words))


_HEAD = """\
---
title: Suite file
---

# Suite file: every key

A suite is a YAML file that names datasets, backbones, losses and seeds; every combination is a *cell*, and
`lossbench run FILE` runs the cells that have no record yet. `lossbench plan FILE` shows them first. Unknown keys, keys
given twice and values of another type are errors with file and line.

This page is made from the models that read a suite, when the site is built. [Editors](../editor.md) complete and check
the same keys as you type.

"""
