"""The catalogue of losses, and what every loss, backbone and dataset takes: from the registry, nothing is imported."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import griffe

from docsite.markup import code, sentence, table
from lossbench.cli.common import literal
from lossbench.docstring import read
from lossbench.registry import Kind, Plugin, Registry
from lossbench.signatures import Param
from lossbench.site.docstring import typeset
from lossbench.site.formulas import formulas_of

ROOT = Path(__file__).parents[1]
#: {kind: (page of its parameters, what a suite calls them)}.
PAGES: dict[Kind, tuple[str, str]] = {
    "loss": ("losses", "losses"),
    "backbone": ("backbones", "backbones"),
    "dataset": ("datasets", "datasets"),
}
_FACTS = {
    "class_counts": "class counts",
    "num_classes": "number of classes",
    "root": "files (`lossbench data get {name}`)",
}


@cache
def package() -> griffe.Module:
    """lossbench, read by griffe."""
    loaded = griffe.load("lossbench", search_paths=[str(ROOT)])
    assert isinstance(loaded, griffe.Module)
    return loaded


def path_of(plugin: Plugin) -> str:
    """`lossbench.losses.focal.FocalLoss`: what its entry in the API reference is called."""
    return f"{plugin.module}.{plugin.attribute}"


def needs(plugin: Plugin) -> list[str]:
    """What a loss asks for beside logits and labels. (The number of classes is known to everybody.)"""
    found = ["class counts"] if "class_counts" in plugin.facts else []
    source = package()[path_of(plugin).removeprefix("lossbench.")]
    # A name for a `sum` of certain losses inherits a `resample` that none of them takes.
    named_sum = any(str(base).rpartition(".")[2] == "SumLoss" for base in source.bases)
    if "resample" in [parameter.name for parameter in source.all_members["forward"].parameters] and not named_sum:
        terms = any(param.takes_terms for param in plugin.params.values())
        found.append("Monte-Carlo passes" + (" if a term does" if terms else ""))
    return found


def catalogue() -> str:
    """The page of all losses, in Markdown."""
    rows = []
    for plugin in Registry("loss"):
        doc = read(plugin)
        name = f'<a id="{plugin.name}" href="reference/api/losses.html#{path_of(plugin)}">{code(plugin.name)}</a>'
        params = ", ".join(code(_given(param)) for param in plugin.params.values())
        more = (
            f'<br><small><a href="reference/losses.html#{plugin.name}">parameters</a> {params}</small>'
            if params
            else ""
        )
        rows.append(
            (
                name,
                f"{typeset(doc.summary)}{more}",
                sentence(str(typeset(doc.source))),
                "<br>".join(needs(plugin)) or "–",
            )
        )
    return _CATALOGUE.format(count=len(rows)) + table(("Loss", "What it is", "Source", "Needs"), rows, "catalogue")


def parameters(kind: Kind) -> str:
    """The page of what every plugin of a kind takes, in Markdown."""
    _, key = PAGES[kind]
    parts = [_PARAMETERS[kind]]
    for plugin in Registry(kind):
        doc = read(plugin)
        parts.append(f"## {plugin.name} {{ #{plugin.name} }}\n\n<p>{typeset(doc.summary)}</p>\n")
        parts += [f'<div class="lb-formula" tabindex="0">{formula}</div>\n' for formula in formulas_of(plugin)]
        wants = list(_wants(plugin))
        parts.append(f"[Description][{path_of(plugin)}]" + (f" · asks for {', '.join(wants)}" if wants else "") + "\n")
        rows = [_row(plugin, param, doc.params.get(param.name, "")) for param in plugin.params.values()]
        if rows:
            parts.append(table(("Parameter", "Meaning"), rows, "keys"))
        values = "".join(f", {_given(param, colon=True)}" for param in plugin.params.values())
        line = plugin.name if not values else f"{{name: {plugin.name}{values}}}"
        parts.append(f"```yaml\n{key}:\n  - {line}\n```\n")
    return "\n".join(parts)


def _wants(plugin: Plugin) -> Iterator[str]:
    if plugin.kind == "loss":
        yield from needs(plugin)
    for fact in sorted(plugin.facts):
        if plugin.kind == "dataset" and fact in _FACTS:
            yield _FACTS[fact].format(name=plugin.name)


def _row(plugin: Plugin, param: Param, meaning: str) -> tuple[str, str]:
    anchor = f"{plugin.name}.{param.name}"
    default = "required" if param.required else f"default {code(literal(param.default))}"
    kind = param.type_name if param.takes_terms else type_words(param.annotation)
    name = f'<a id="{anchor}" href="#{anchor}">{code(param.name)}</a><br><small>{kind}<br>{default}</small>'
    return name, sentence(str(typeset(meaning)))


_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", NoneType: "null"}


def type_words(annotation: Any) -> str:
    """A type as a reader of a suite says it, as HTML: `number or null`, `a or b`, `list of text`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(code(str(argument)) for argument in arguments)
    if origin in (Union, UnionType):
        return " or ".join(map(type_words, arguments))
    if origin is list:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"mapping of {type_words(arguments[0])} to {type_words(arguments[1])}"
    return _WORDS.get(annotation, str(getattr(annotation, "__name__", annotation)))


def _given(param: Param, *, colon: bool = False) -> str:
    if param.required:
        return f"{param.name}: {_REQUIRED.get(param.name, '...')}" if colon else f"{param.name} (required)"
    value = literal(param.default)
    if isinstance(param.default, float) and not colon:
        value = f"{param.default:.7g}"  # 4/3
    if isinstance(param.default, str) and (value == "" or any(mark in value for mark in "{}[],:#*&!|>'\"%@`")):
        value = f'"{param.default}"'
    return f"{param.name}: {value}" if colon else f"{param.name}={value}"


#: What stands for a parameter without a default, in an example.
_REQUIRED = {
    "terms": "[{name: ce}, {name: dice, weight: 0.5}]",
    "title": "my_roads",
    "path": "~/data/roads",
    "classes": "[road, car, person]",
}

_CATALOGUE = """\
---
title: Catalogue of losses
hide: [toc]
---

# Catalogue: {count} losses

Each is one file, written from its paper, tested against the [rules](conformance.md) and, where one exists, an
independent reference; this table is made from the registry, when the site is built. A name leads to its
description: formula, parameters, when it helps, known traps. How they did on data is for records to say:
`lossbench leaderboard`, [`lossbench advise`](advise.md).

p is the softmax of the logits, y a pixel's true class, n<sub>c</sub> the labelled training pixels of class c. *Class
counts* are filled in from the training split; *Monte-Carlo passes* repeat the [head](add-a-backbone.md) of the network
with other dropout masks.

"""

_PARAMETERS: dict[Kind, str] = {
    "loss": """\
---
title: Losses
---

# What losses take

A suite's `losses:` names them, alone or in a mapping with parameters; a list of values is a grid, one loss for each
value. Below are the defaults. `class_counts`, `num_classes` and `ignore_index` are filled in from the dataset. The
[catalogue](../catalogue.md) has them in one table.

""",
    "backbone": """\
---
title: Backbones
---

# What backbones take

A suite's `backbones:` names them, alone or in a mapping with parameters; a list of values is a grid. `num_classes` is
filled in from the dataset. `weights` is `imagenet` (fetched on first use), `none`, or a file, relative to the suite.

""",
    "dataset": """\
---
title: Datasets
---

# What datasets take

A suite's `datasets:` names them, alone or in a mapping with parameters; a list of values is a grid. Files are looked
for in a folder of the dataset's name below `--data-root` or the variable `LOSSBENCH_DATA`; `lossbench data get NAME`
says how to come by them, `lossbench data check NAME` whether they are whole.

""",
}
