"""What may be compared: runs of one protocol on equal data; and how groups that may not be are told apart by name."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lossbench.cells import canonical_json
from lossbench.records import Record
from lossbench.runs import Part
from lossbench.runtable import Condition


def protocol(record: Record | Condition) -> dict[str, Any]:
    """The protocol, with today's defaults for keys that did not exist when the record was made."""
    return {**_protocol_defaults(), **record.cell["protocol"]}


@cache
def _protocol_defaults() -> dict[str, Any]:
    """Defaults of `Protocol` in order, from the syntax tree: importing it takes as long as a small leaderboard."""
    tree = ast.parse(Path(__file__).with_name("protocol.py").read_text(encoding="utf-8"))
    (model,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Protocol"]
    fields = [node for node in model.body if isinstance(node, ast.AnnAssign) and node.value is not None]
    return {field.target.id: _default(field.value) for field in fields if isinstance(field.target, ast.Name)}


def _default(value: ast.expr | None) -> Any:
    """Of a field that is written `= literal` or `= Field(default=literal, ...)`."""
    if isinstance(value, ast.Call):
        (value,) = [keyword.value for keyword in value.keywords if keyword.arg == "default"]
    return ast.literal_eval(value) if value is not None else None


def runs_in(parts: Sequence[Part]) -> int:
    return sum(len(part.rows) for part in parts)


def variants(parts: Sequence[Part], reference: str) -> list[tuple[str, list[Part]]]:
    """Comparable groups of one dataset and backbone, each with a word on how it differs from the main one."""
    groups: dict[tuple[str, str], list[Part]] = defaultdict(list)
    unscored = []
    for part in parts:
        if part.condition.scored:
            groups[canonical_json(protocol(part.condition)), _data_key(part.condition)].append(part)
        else:
            unscored.append(part)
    for part in unscored:
        same = canonical_json(protocol(part.condition))
        like = [key for key, members in groups.items() if key[0] == same and _same_classes(part, members[0])]
        own = (same, _data_key(part.condition))
        groups[max(like, key=lambda key: runs_in(groups[key])) if like else own].append(part)

    def weight(key: tuple[str, str]) -> tuple[int, bool, int, tuple[str, str]]:
        losses = {canonical_json(part.condition.cell["loss"]) for part in groups[key]}
        has_reference = any(part.condition.cell["loss"]["name"] == reference for part in groups[key])
        return len(losses), has_reference, runs_in(groups[key]), key

    main = max(groups, key=weight)
    return [
        (_difference(groups[key][0].condition, groups[main][0].condition, key, main), groups[key]) for key in groups
    ]


def _data_key(condition: Condition) -> str:
    """Classes, rule and pixels: equal data have equal counts per class, in training and in the scored truth.
    A run that scored nothing has no truth counts and is told by the rest alone."""
    return canonical_json([condition.class_names, condition.absent_class_rule, condition.train_pixels, condition.truth])


def _same_classes(part: Part, other: Part) -> bool:
    ours, theirs = part.condition, other.condition
    return (ours.class_names, ours.train_pixels) == (theirs.class_names, theirs.train_pixels)


def _difference(ours: Condition, main: Condition, key: tuple[str, str], main_key: tuple[str, str]) -> str:
    """How a variant differs from the main block: "lr 0.001 instead of 0.01"."""
    if key == main_key:
        return ""
    settings, usual = protocol(ours), protocol(main)
    words = [
        f"{name} {_text(settings[name])} instead of {_text(usual.get(name))}"
        for name in settings
        if settings[name] != usual.get(name)
    ]
    if key[1] != main_key[1]:
        if ours.class_names != main.class_names:
            ours_only = [name for name in ours.class_names if name not in main.class_names]
            listed = ", ".join(ours_only[:3]) + (", ..." if len(ours_only) > 3 else "") or "another order or a subset"
            words.append(f"other classes: {len(ours.class_names)} ({listed})")
        elif ours.absent_class_rule != main.absent_class_rule:
            words.append(f"absent classes {ours.absent_class_rule}")
        else:
            pixels, most = sum(ours.truth), sum(main.truth)
            words.append(f"other data: {pixels:,} scored pixels" + (f" instead of {most:,}" if pixels != most else ""))
    return "; ".join(words)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return "off" if value is None else str(value)


def labels(groups: Mapping[str, Sequence[Part]], part: str) -> dict[str, str]:
    """A label for each group of runs of one identity: the commonest, made unique by the parameters that differ.

    Labels show only what a suite spelled out, so two identities may share one (another default, another suite).

    Args:
        part: "dataset", "backbone" or "loss".
    """
    found = {}
    for key, members in groups.items():
        counts: Counter[str] = Counter()
        for member in members:
            counts[member.condition.labels[part]] += len(member.rows)
        found[key] = counts.most_common(1)[0][0]
    identities = {key: members[0].condition.cell[part] for key, members in groups.items()}
    by_label: dict[str, list[str]] = defaultdict(list)
    for key, label in found.items():
        by_label[label].append(key)
    for label, keys in by_label.items():
        params = {key: identities[key]["params"] for key in keys}
        names = sorted({name for group in params.values() for name in group})
        differing = [n for n in names if len({canonical_json(p.get(n, "-")) for p in params.values()}) > 1]
        if differing:
            base = identities[keys[0]]["name"]
            for key in keys:
                shown = ", ".join(f"{name}={_text(params[key].get(name, '-'))}" for name in differing)
                found[key] = f"{base}({shown})" if label == base else f"{label[:-1]}, {shown})"
    return found
