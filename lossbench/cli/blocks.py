"""The blocks of the leaderboard, for verbs that show something else of the same runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lossbench.cli.common import open_store, registries
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from lossbench.standings import Block


def read_blocks(
    results: Path,
    patterns: Mapping[str, str],
    *,
    fresh: bool,
    plugin: Sequence[Path] | None,
    sort: str = "miou",
    reference: str = "ce",
) -> tuple[list[Block], list[str]]:
    """What the leaderboard would show, and one line for each record file that had to be skipped.

    Args:
        patterns: globs for dataset, backbone and loss.

    Raises ConfigError when there is nothing to show.
    """
    from lossbench.leaderboard import build
    from lossbench.provenance import stale_reasons
    from lossbench.selection import require_match

    table, warnings = open_store(results).runs()
    if not len(table):
        raise ConfigError(
            f"no records in {results}",
            hint="run a suite first, e.g. `lossbench run quickstart`, or name another directory with --results",
        )
    require_match(table.conditions, patterns)
    stale = partial(stale_reasons, registries=registries(plugin))
    blocks = build(table, **patterns, sort=sort, reference=reference, stale=stale, include_stale=not fresh)
    if not blocks:
        raise ConfigError("every matching run is stale", hint="leave out --fresh to see them, or run the suite again")
    return blocks, warnings
