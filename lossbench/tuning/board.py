"""The tracks of a leaderboard: the ordinary blocks, as is, and those of the tuned track, where the searched settings
may differ from row to row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lossbench.cells import identity_hash
from lossbench.leaderboard import Stale, build
from lossbench.runs import Part
from lossbench.runtable import SCORES, Condition, RunTable
from lossbench.standings import Block, Row
from lossbench.statistics import Paired, paired_difference
from lossbench.tuning.choice import edges
from lossbench.tuning.space import Dimension, Setting, shown
from lossbench.tuning.tracks import AS_IS, TUNED, track_of

TRACKS = ("all", "as-is", "tuned")


@dataclass(frozen=True)
class RowTuning:
    """What a search chose for a row.

    Attributes:
        setting: the chosen one; `own`: that of the loss as is.
        gain: mIoU tuned minus as is, in points, paired over seeds; None without a common seed.
        edges: dimensions in which the choice lies at an edge of the space.
    """

    setting: Setting
    own: Setting
    gain: Paired | None
    edges: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        gain = None
        if self.gain is not None:
            gain = {"mean": self.gain.mean, "sd": self.gain.sd, "n": self.gain.n, "interval": self.gain.interval}
        return {"chosen": dict(self.setting), "as_is": dict(self.own), "gain": gain, "edges": list(self.edges)}


def build_tracks(
    table: RunTable, *, track: str = "all", reference: str = "ce", stale: Stale | None = None, **options: Any
) -> list[Block]:
    """`leaderboard.build` of every track asked for, the tuned block of a dataset and backbone after the one as is. No
    block holds a trial.

    Args:
        track: one of TRACKS.
        options: those of `build`.
    """
    blocks: list[Block] = []
    if track != "tuned":
        blocks += build(table, reference=reference, stale=stale, **options)
    if track != "as-is" and any(track_of(condition.cell["protocol"]) == TUNED for condition in table.conditions):
        tuned = _tuned(table, reference, stale, options)
        places = {(block.dataset, block.backbone) for block in tuned}
        for block in blocks:
            if (block.dataset, block.backbone) in places:
                block.track = AS_IS
        blocks += tuned
    return sorted(blocks, key=lambda b: (b.dataset, b.backbone, b.track == TUNED, bool(b.variant), b.variant))


def _tuned(table: RunTable, reference: str, stale: Stale | None, options: Mapping[str, Any]) -> list[Block]:
    originals: dict[int, Condition] = {}
    conditions = []
    for condition in table.conditions:
        shared = condition
        if track_of(condition.cell["protocol"]) == TUNED:
            shared = _shared(condition)
            originals[id(shared)] = condition
        conditions.append(shared)
    together = replace(table, conditions=conditions)
    blocks = build(
        together,
        track=TUNED,
        reference=reference,
        stale=None if stale is None else lambda condition: stale(originals[id(condition)]),
        **options,
    )
    by_id = {int(number): row for row, number in enumerate(table.ids.tolist())}
    for block in blocks:
        block.track = TUNED
        for row in block.rows:
            row.tuning = _tuning(row, table, originals, by_id)
        block.notes = [*_notes(block, originals), *block.notes]
    return blocks


def _shared(condition: Condition) -> Condition:
    """A condition of the tuned track as its block sees it: what was searched is a property of the row, what is left
    of the protocol, and the search itself, is common."""
    cell = condition.cell
    protocol = cell["protocol"]
    tuned = protocol["tuned"]
    setting = _setting(cell)
    label = condition.labels["loss"]
    chosen = {name: value for name, value in setting.items() if f"{name}=" not in label}
    head, _, rest = label.partition("(")
    words = [rest.removesuffix(")")] * bool(rest) + [shown(chosen)] * bool(chosen)
    loss = {
        "name": cell["loss"]["name"],
        "params": {
            **cell["loss"]["params"],
            **setting,
            # Keeps rows apart that ended at one setting from different starts or spaces.
            "tuned": {"from": tuned["from"], "loss": tuned["loss"]},
        },
    }
    common = {**protocol, **dict.fromkeys(tuned["search"], "tuned"), "tuned": budget(tuned)}
    return replace(
        condition,
        cell={**cell, "loss": loss, "protocol": common},
        labels={**condition.labels, "loss": f"{head}({', '.join(words)})" if words else head},
    )


def _setting(cell: Mapping[str, Any]) -> dict[str, Any]:
    tuned = cell["protocol"]["tuned"]
    found = {name: cell["protocol"][name] for name in tuned["search"]}
    return found | {name: cell["loss"]["params"][name] for name in tuned["loss"]}


def space_of(tuned: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions in the description of a search, those of the protocol first."""
    return tuple(Dimension.from_json(name, data) for name, data in {**tuned["search"], **tuned["loss"]}.items())


def budget(tuned: Mapping[str, Any]) -> str:
    """What all rows of a block share of their searches, in words."""
    seeds = ", ".join(map(str, tuned["seeds"]))
    space = ", ".join(str(Dimension.from_json(name, data)) for name, data in tuned["search"].items())
    return (
        f"{tuned['trials']} trials a loss ({tuned['sampler']}, seed {tuned['seed']}) over {space}; each scored on "
        f"{100 * tuned['holdout']:g} % of the training images, held out (seed {tuned['holdout_seed']}), "
        f"training seed{'s' * (len(tuned['seeds']) > 1)} {seeds}"
    )


def as_is_cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the cell that a cell of the tuned track is of, before it was tuned; without the seed if that
    has none."""
    protocol = dict(cell["protocol"])
    tuned = protocol.pop("tuned")
    own = tuned["from"]
    protocol |= {name: own[name] for name in tuned["search"]}
    params = {**cell["loss"]["params"], **{name: own[name] for name in tuned["loss"]}}
    return {**cell, "loss": {**cell["loss"], "params": params}, "protocol": protocol}


def _tuning(row: Row, table: RunTable, originals: Mapping[int, Condition], by_id: Mapping[int, int]) -> RowTuning:
    before: dict[int, float] = {}
    for part in row.runs.parts:
        cell = as_is_cell(originals[id(part.condition)].cell)
        for index in part.rows.tolist():
            seed = int(row.runs.table.seeds[index])
            place = by_id.get(int(identity_hash({**cell, "seed": seed}), 16))
            if place is not None:
                before[seed] = 100 * float(table.scores[place, SCORES.index("miou")])
    original = originals[id(row.runs.parts[0].condition)].cell
    tuned, setting = original["protocol"]["tuned"], _setting(original)
    at_edge = edges(space_of(tuned), setting, tuned["trials"])
    return RowTuning(setting, tuned["from"], paired_difference(row.by_seed("miou"), before), tuple(at_edge))


def _notes(block: Block, originals: Mapping[int, Condition]) -> list[str]:
    parts: list[Part] = block.parts
    tuned = [originals[id(part.condition)].cell["protocol"]["tuned"] for part in parts]
    notes = [f"Tuned: {budget(tuned[0])}. The best was trained again on all training images."]
    own: dict[str, str] = {}
    for part, description in zip(parts, tuned, strict=True):
        dimensions = [str(Dimension.from_json(name, data)) for name, data in description["loss"].items()]
        if dimensions:
            own[str(part.condition.cell["loss"]["name"])] = " and ".join(dimensions)
    if own:
        notes.append(f"Searched beside it: {'; '.join(f'{name}: {words}' for name, words in own.items())}.")
    gains = []
    for row in block.rows:
        if row.tuning is not None and row.tuning.gain is not None:
            half = row.tuning.gain.half_width
            around = "" if half is None else f" ±{half:.{1 + (half < 10)}f}"
            gains.append(f"{row.loss['name']} {row.tuning.gain.mean:+.2f}{around}")
    if gains:
        notes.append(f"What tuning gained (tuned minus as is, points, paired over seeds): {', '.join(gains)}.")
    at_edge = [f"{row.loss['name']} {edge}" for row in block.rows if row.tuning for edge in row.tuning.edges]
    if at_edge:
        notes.append(f"Warning: chosen at the edge of the space, so better may lie outside: {', '.join(at_edge)}.")
    return notes
