"""The PASCAL VOC development kit: where its parts lie, its lists, its colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lossbench.datasets._official import Archive
from lossbench.errors import DataError

#: What a devkit is found by, below the dataset's folder: the folder itself, or as the archive unpacks.
_BELOW = ("", "VOC2010", "VOCdevkit/VOC2010")
VOC2010_ARCHIVE = Archive(
    "VOCtrainval_03-May-2010.tar",
    "images, lists and VOC labels, 1.3 GB",
    url="https://thor.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",
    md5="da459979d0c395079b5c75ee67908abb",
    top="VOCdevkit",
)


def places(*roots: Path) -> list[Path]:
    """Folders that may be the devkit's `VOC2010`, the likeliest first."""
    return [root / below for root in roots for below in _BELOW]


def find(where: Sequence[Path], relative: str) -> Path | None:
    """The first of `where` that holds `relative`, joined with it; None when none does."""
    return next((folder / relative for folder in where if (folder / relative).exists()), None)


def read_list(file: Path) -> tuple[str, ...]:
    """Image names of a list, the first word of each line. Raises DataError: unreadable, empty, a name twice."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot read the list of images ({error.strerror})") from None
    names = tuple(line.split()[0] for line in lines if line.strip())
    if not names:
        raise DataError(f"{file}: lists no image")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file}: '{twice}' is listed twice", hint="unpack the archive again")
    return names


def voc_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """The first `count` colours of VOC's colour map: the bits of the id, three at a time, from the highest bit down."""
    return tuple((_channel(i, 0), _channel(i, 1), _channel(i, 2)) for i in range(count))


def _channel(label: int, channel: int) -> int:
    return sum(((label >> (3 * place + channel)) & 1) << (7 - place) for place in range(8))
