"""Which track a run belongs to: as is, a trial, or tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossbench.cells import Cell

AS_IS, TRIAL, TUNED = "as is", "trial", "tuned"


def track_of(protocol: Mapping[str, Any]) -> str:
    """Of a cell's protocol as its record has it."""
    if protocol.get("holdout") is not None:
        return TRIAL
    return AS_IS if protocol.get("tuned") is None else TUNED


def title(cell: Cell) -> str:
    """What follows the names of dataset and backbone where tracks are told apart; empty as is."""
    if cell.protocol.holdout is not None:
        return ", trials on a hold-out"
    return "" if cell.protocol.tuned is None else ", tuned"
