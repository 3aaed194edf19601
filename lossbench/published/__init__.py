"""Scores that papers printed, as data: one JSON file a paper, the digits as printed. Nothing here was run by lossbench.

A leaderboard may show them beside measured rows, marked; they never take part in ranks, best marks, differences or
statistics. `lossbench audit --published` checks their arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lossbench.errors import ConfigError
from lossbench.selection import fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossbench.standings import Block

#: How every published row is marked, in every format.
MARK = "published, not re-run"

Text = Annotated[str, Field(min_length=1)]
Percent = Annotated[Decimal, Field(ge=0, le=100)]
Score = Literal["miou", "macc", "mprecision", "mrecall", "mf1", "pixel_accuracy", "fwiou"]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Source:
    """A paper. `short` is how tables name it: "Su et al. 2022"."""

    short: Text
    authors: Annotated[tuple[Text, ...], Field(min_length=1)]
    title: Text
    venue: Text
    year: Annotated[int, Field(ge=1950, le=2100)]
    doi: Annotated[str, Field(pattern=r"^10\.\d{4,9}/\S+$")]


@dataclass(frozen=True, config=_STRICT)
class PublishedRow:
    """A loss as the paper calls it, the registered name of what it describes, and scores in percent as printed."""

    loss: Text
    name: Text
    scores: Annotated[Mapping[Score, Percent], Field(min_length=1)]


@dataclass(frozen=True, config=_STRICT)
class PublishedTable:
    """A table of a paper.

    Attributes:
        source: the paper.
        table: its number there, "I".
        stated_dataset, stated_backbone: what the paper calls them.
        dataset, dataset_params: the registered dataset the numbers belong to, and all its parameters.
        also_asked_as: further names under which a reader may look for the table.
        split: split that was scored.
        backbones: registered backbones of the stated family; beside their measured rows the table is shown.
        protocol: how the protocol differs from a measured one, in one clause.
        remarks: sentences a reader must know.
        rows: in the paper's order.
    """

    source: Source
    table: Text
    stated_dataset: Text
    dataset: Text
    dataset_params: Mapping[str, Any]
    also_asked_as: tuple[Text, ...]
    split: Text
    stated_backbone: Text
    backbones: tuple[Text, ...]
    protocol: Text
    remarks: tuple[Text, ...]
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]

    @property
    def title(self) -> str:
        return f"{self.source.short}, table {self.table}"

    @property
    def reference(self) -> str:
        """The source in one clause."""
        authors = " and ".join([", ".join(self.source.authors[:-1]), self.source.authors[-1]]).removeprefix(" and ")
        return f"{authors}, {self.source.venue}, table {self.table}, doi {self.source.doi}"


@dataclass(frozen=True, config=_STRICT)
class _File:
    source: Source
    tables: Annotated[tuple[Mapping[str, Any], ...], Field(min_length=1)]


def load(folder: Path | None = None) -> list[PublishedTable]:
    """Every published table, by file name, then in the paper's order.

    Args:
        folder: where the JSON files lie; None: those of the package.

    Raises ConfigError that names the file and the field when one is not what it must be.
    """
    return [table for file in sorted((folder or Path(__file__).parent).glob("*.json")) for table in _read(file)]


def _read(file: Path) -> list[PublishedTable]:
    place: tuple[str | int, ...] = ()
    found = []
    try:
        data = json.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)  # 76.30 keeps its zero
        content = TypeAdapter(_File).validate_python(data)
        for number, table in enumerate(content.tables):
            place = ("tables", number)
            found.append(TypeAdapter(PublishedTable).validate_python({"source": content.source, **table}))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, (*place, *first["loc"]))).removesuffix(".[key]")
        raise ConfigError(f"{file}: {where}: {first['msg']}", hint="su2022.json of lossbench shows the form") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not a file of published tables ({error})") from None
    return found


def select(
    tables: Iterable[PublishedTable], *, dataset: str = "*", backbone: str = "*", loss: str = "*"
) -> list[PublishedTable]:
    """The tables that match globs over registered and stated names, each with the rows that match `loss`. A label with
    parameters, `pascal_context(background=true)`, asks for its dataset."""
    found = []
    for table in tables:
        rows = tuple(row for row in table.rows if _matches(loss, (row.loss, row.name)))
        if (
            rows
            and _matches(dataset, (table.dataset, table.stated_dataset, *table.also_asked_as))
            and _matches(backbone, (table.stated_backbone, *table.backbones))
        ):
            found.append(replace(table, rows=rows))
    return found


def _matches(pattern: str, names: Iterable[str]) -> bool:
    patterns = (pattern, *(part.partition("(")[0] for part in pattern.split("|")))
    return any(fits(name, each) for name in names for each in patterns)


def attach(blocks: Sequence[Block], tables: Iterable[PublishedTable]) -> list[PublishedTable]:
    """Put each table beside the blocks of its dataset with its parameters, of its split and of its family of backbones
    (`Block.published`); returns those that found none."""
    alone = []
    for table in tables:
        hosts = [block for block in blocks if _comparable(block, table)]
        for block in hosts:
            block.published.append(table)
        if not hosts:
            alone.append(table)
    return alone


def _comparable(block: Block, table: PublishedTable) -> bool:
    """Whether a reader may hold the two against each other. Parameters may change the classes: the 59 and the 60
    classes of PASCAL-Context are two protocols."""
    return (
        block.dataset_name == table.dataset
        and block.dataset_params == table.dataset_params
        and block.protocol["eval_split"] == table.split
        and block.backbone_name in table.backbones
    )
