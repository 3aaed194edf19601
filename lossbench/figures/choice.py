"""Which runs share a figure: those of one block of the leaderboard. Different protocols are never mixed."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from lossbench.errors import ConfigError
from lossbench.standings import Block, Row
from lossbench.views.grid import footer, row_label

#: What `--variant` calls the block that has none.
MAIN = "main"


def of_variant(blocks: Sequence[Block], variant: str | None) -> list[Block]:
    """The blocks of one protocol per dataset and backbone: all of them when `variant` is None, those that differ from
    the usual protocol by what it says (a glob, or a part of the words) or, for "main", by nothing.
    Raises ConfigError when there is none."""
    if variant is None:
        return list(blocks)
    found = [block for block in blocks if _fits(block, variant)]
    if not found:
        known = "; ".join(sorted({f"'{block.variant or MAIN}'" for block in blocks}))
        raise ConfigError(f"no runs are of the variant '{variant}'", hint=f"there are: {known}")
    return found


def _fits(block: Block, variant: str) -> bool:
    if variant == MAIN:
        return not block.variant
    return bool(block.variant) and (variant in block.variant or fnmatchcase(block.variant, variant))


def one_block(blocks: Sequence[Block], variant: str | None = None, *, dataset: str = "*", backbone: str = "*") -> Block:
    """The block to draw. Where one is labelled exactly as asked for, those whose label goes on are not meant:
    "streets" is then not "streets(imbalance=10)".

    Raises ConfigError that says how the runs differ when they must not share a figure.
    """
    for what, asked in (("dataset", dataset), ("backbone", backbone)):
        blocks = [block for block in blocks if getattr(block, what) == asked] or blocks
    blocks = of_variant(blocks, variant)
    if len(blocks) == 1:
        return blocks[0]
    for what in ("dataset", "backbone"):
        names = list(dict.fromkeys(getattr(block, what) for block in blocks))
        if len(names) > 1:
            raise ConfigError(
                f"the runs are of {len(names)} {what}s, which do not share a figure: {_listed(names)}",
                hint=f"choose one with --{what}",
            )
    raise different_protocols(blocks)


def different_protocols(blocks: Sequence[Block]) -> ConfigError:
    """The error for blocks of one dataset and backbone, but of several protocols."""
    variants = [f"'{block.variant or MAIN}' ({_listed([row.label for row in block.rows])})" for block in blocks]
    return ConfigError(
        f"the runs were trained by {len(blocks)} protocols, which do not share a figure: {'; '.join(variants)}",
        hint="choose one with --variant, or narrow --loss",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def in_order(block: Block, reference: str = "ce") -> list[Row]:
    """The rows of a block in the order of all figures: the reference first, then by name and parameters; so that a
    loss keeps its place and colour from figure to figure."""

    def key(row: Row) -> tuple[bool, str, str]:
        return reference not in (row.label, row.loss["name"]), str(row.loss["name"]), row.label

    return sorted(block.rows, key=key)


def label(*rows: Row) -> str:
    """A loss as legends name it, with the leaderboard's marks: ! for diverged, ~ for stale runs in any of its rows."""
    marks = {mark for row in rows for mark in row_label(row).removeprefix(row.label).strip()}
    return f"{rows[0].label} {''.join(sorted(marks))}".rstrip()


def unmarked(name: str) -> str:
    """A label without its marks, for data."""
    return name.rstrip("!~ ")


def facts(block: Block) -> list[str]:
    """What a caption says of the runs: seeds, split, protocol, warnings."""
    return [footer(block)[0], *block.notes]
