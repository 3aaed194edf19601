"""What a page says of a loss: its description, parameters and rules, read without importing it; and how it did."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lossbench.docstring import Docstring, declared_exceptions, read
from lossbench.errors import LossbenchError
from lossbench.plugin import syntax_tree
from lossbench.registry import Plugin, Registry
from lossbench.site.formulas import formulas_of
from lossbench.site.judge import Judgement
from lossbench.site.model import Board, Loss, Site
from lossbench.site.svg import Axis
from lossbench.standings import Row
from lossbench.statistics import Paired, paired_difference

_CONFORMANCE = Path(__file__).parents[1] / "conformance" / "losses"


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    default: Any
    required: bool
    meaning: str


@dataclass(frozen=True)
class About:
    """What the plugin itself says. `known` is False where no plugin of that name is here."""

    known: bool
    doc: Docstring = field(default_factory=Docstring)
    formulas: list[Markup] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    exceptions: dict[str, str] = field(default_factory=dict)
    shipped: bool = False


def about(name: str, registry: Registry) -> About:
    if name not in registry:
        return About(known=False)
    plugin = registry.get(name)
    doc = read(plugin)
    parameters, facts = _parameters(plugin, doc)
    return About(
        known=True,
        doc=doc,
        formulas=formulas_of(plugin),
        parameters=parameters,
        facts=facts,
        exceptions=declared_exceptions(plugin),
        shipped=plugin.module == f"lossbench.losses.{name}",
    )


def _parameters(plugin: Plugin, doc: Docstring) -> tuple[list[Parameter], list[str]]:
    """From the syntax tree alone: a plugin whose signature is not static is not imported for a page."""
    if plugin.static_signature is None:
        return [], []
    try:
        found = [
            Parameter(
                p.name, _type(p.type_name), None if p.required else p.default, p.required, doc.params.get(p.name, "")
            )
            for p in plugin.params.values()
        ]
    except LossbenchError:
        return [], []
    return found, sorted(plugin.facts)


def _type(name: str) -> str:
    """As a reader says it: the options of a Literal, one by one."""
    return re.sub(r"Literal\[(.*?)\]", lambda found: found[1].replace(", ", " or "), name)


@cache
def rules() -> dict[str, str]:
    """Every rule of a loss and what it requires, from syntax trees: importing it brings torch."""
    found: dict[str, str] = {}
    for name in ("values", "invariance", "behaviour"):
        tree = syntax_tree(_CONFORMANCE / f"{name}.py")
        docs = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in tree.body:
            if not (isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Tuple)):
                continue
            if isinstance(node.target, ast.Name) and node.target.id.endswith("_RULES"):
                rules = [rule.id for rule in node.value.elts if isinstance(rule, ast.Name)]
                found |= {rule: docs[rule].split("\n\n")[0] for rule in rules}
    return found


@dataclass(frozen=True)
class Standing:
    """One loss on one block."""

    board: Board
    loss: Loss
    row: Row
    judged: Judgement
    rank: int
    gains: list[tuple[str, Paired]]


@dataclass(frozen=True)
class Record:
    """All of a plugin's standings, on one axis."""

    standings: list[Standing]
    axis: Axis

    @property
    def boards(self) -> int:
        return len({each.board.slug for each in self.standings})

    def count(self, verdict: str) -> int:
        return sum(each.judged.verdict == verdict for each in self.standings)


def record_of(site: Site, losses: Sequence[Loss]) -> Record:
    """Block by block, and within a block the better ones first."""
    wanted = {loss.key for loss in losses}
    standings = [
        Standing(board, loss, row, judged, rank, class_gains(row, board))
        for board in site.boards
        for rank, (row, loss, judged) in enumerate(
            zip(board.block.rows, board.losses, board.judged, strict=True), start=1
        )
        if loss.key in wanted
    ]
    return Record(standings, Axis.of(each.row.delta for each in standings))


def class_gains(row: Row, board: Board) -> list[tuple[str, Paired]]:
    """IoU of each class minus the reference's in points, paired over seeds, the largest gain first; classes that no
    common seed has are left out, and so is everything without a reference."""
    if row.reference is None or row.is_reference:
        return []
    ours, theirs = row.runs.class_iou, row.reference.runs.class_iou
    found = []
    for name in board.block.class_names:
        if name not in ours or name not in theirs:
            continue
        own = dict(zip(row.runs.seeds, ours[name].tolist(), strict=True))
        other = dict(zip(row.reference.runs.seeds, theirs[name].tolist(), strict=True))
        pair = paired_difference(own, other)
        if pair is not None:
            found.append((name, pair))
    return sorted(found, key=lambda item: -item[1].mean)
