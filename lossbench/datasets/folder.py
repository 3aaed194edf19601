"""Anybody's images and masks, described in the suite: no code."""

from __future__ import annotations

import colorsys
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._pairs import Layout, Pair, check_patterns
from lossbench.datasets._reading import UNKNOWN, id_table, map_ids, read_image, read_mask, same_size
from lossbench.datasets.base import IGNORE_INDEX, SegmentationDataset
from lossbench.errors import ConfigError, DataError
from lossbench.registry import register_dataset

#: A mask holds uint8 targets: 0..253 for classes, 254 is kept free for "unknown", 255 is void.
MAX_CLASSES = 254
#: Largest raw id of a mask (16-bit PNG).
MAX_ID = 65535


@register_dataset("folder")
class Folder(SegmentationDataset):
    """Anybody's folders of images and masks: grey, palette or RGB masks, no code.

    Example of a suite::

        datasets:
          - name: folder
            title: my_roads
            path: ~/data/roads            # holds images/train/*.jpg, masks/train/*.png, images/val ...
            classes: [road, car, person]  # ids 0, 1, 2

    Images and masks pair by their path below the two folders, without extension; every image needs a mask and the
    other way round.

    Args:
        title: names the data in tables.
        path: the folder `images`, `masks` and `lists` are relative to.
        classes: names in the order of their ids 0, 1, ...; or a mapping from name to id, or to a list of ids that
            become one class (classes are then ordered by their smallest id).
        images: folder of the images (searched with sub-folders); `{split}` stands for train, val ...
        masks: folder of the masks, in the same form.
        image_suffix: what the images' stems end in, e.g. `_leftImg8bit`. Files without it are no images.
        mask_suffix: what the masks' stems end in, e.g. `_mask` for `a_mask.png` beside `a.jpg`.
        lists: text files that say which images belong to a split, e.g. `splits/{split}.txt`: one name a line.
        val_fraction: for one folder of everything: this share goes to val, chosen by a hash of the name. Frames of
            one video would end up in both splits: use `lists` for those.
        colors: RGB of each class, `{road: [128, 64, 128], ...}`; RGB masks are decoded by it, pictures drawn in it.
        ignore: ids, or RGB triples, that count nowhere. Default: 255 (unless a class has it) for id masks, colours
            must all be known in RGB masks.

    Raises:
        ConfigError: the parameters contradict each other.
    """

    licence: ClassVar[str] = "your own data"
    how_to_get: ClassVar[str] = "set `path` to the folder that holds your images and masks"

    def __init__(
        self,
        *,
        title: str,
        path: Path,
        classes: list[str] | dict[str, int | list[int]],
        images: str = "images/{split}",
        masks: str = "masks/{split}",
        image_suffix: str = "",
        mask_suffix: str = "",
        lists: str | None = None,
        val_fraction: float | None = None,
        colors: dict[str, list[int]] | None = None,
        ignore: list[int | list[int]] | None = None,
    ) -> None:
        self._arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        if not title.strip():
            raise ConfigError("folder: `title` is empty", hint="give the data a short name for the tables")
        self.title = title
        ids = class_ids(classes, title)
        self.class_names = tuple(ids)
        for message in check_patterns(images, masks, lists, val_fraction):
            raise ConfigError(f"folder '{title}': {message}")
        self._layout = Layout(
            path.expanduser(), images, masks, image_suffix, mask_suffix, lists=lists, val_fraction=val_fraction
        )
        self.splits = self._layout.splits()
        ignored_ids, ignored_colors = ignored(ignore, ids, title)
        self._expected = _ranges(i for group in ids.values() for i in group)
        self._table = id_table(list(ids.values()), ignored_ids)
        self._palette = color_map(colors, ignored_colors, self.class_names, title)
        self.colors = (
            tuple(_rgb(colors[name]) for name in self.class_names)
            if colors is not None
            else distinct_colors(len(self.class_names))
        )
        self._decoding = json.dumps([list(map(list, ids.values())), sorted(ignored_ids), self._palette])
        self._pairs = cache(self._layout.pairs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._arguments,)

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """Image and mask files of a split, in order. Raises DataError (see `Layout.pairs`)."""
        try:
            return self._pairs(split)
        except DataError as error:
            raise DataError(f"folder '{self.title}': {error.message}", hint=error.hint) from None

    def names(self, split: str) -> tuple[str, ...]:
        """Paths below the image folder, without extension and suffix. Raises DataError."""
        return tuple(pair.name for pair in self.pairs(split))

    def files(self, split: str) -> list[Path]:
        """Images and masks of the split, in order. Raises DataError."""
        return [file for pair in self.pairs(split) for file in (pair.image, pair.mask)]

    def fingerprint(self, split: str) -> str:
        """As the base class, over what decodes the masks (ids, ignored ids, colours) too."""
        return hashlib.sha256(f"{super().fingerprint(split)}{self._decoding}".encode()).hexdigest()[:12]

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decode one pair. Raises DataError naming the file: unreadable, other size, unknown id or colour."""
        pair = self.pairs(split)[index]
        image, raw = read_image(pair.image), read_mask(pair.mask)
        same_size(image, raw, pair.image, pair.mask)
        if raw.ndim == 3:
            return image, self._map_colors(raw, pair.mask)
        return image, map_ids(raw, self._table, pair.mask, self._expected)

    def _map_colors(self, raw: NDArray[np.uint8], file: Path) -> NDArray[np.uint8]:
        first = raw[..., 0]
        if self._palette is None:
            # Grey masks saved as RGB are common: three equal channels are ids.
            if (raw == first[..., None]).all():
                return map_ids(first, self._table, file, self._expected)
            raise DataError(f"{file}: an RGB mask, but `colors` is not set", hint="give the RGB of each class: colors")
        codes = raw.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        known = np.array(sorted(self._palette), np.int32)
        indices = np.array([self._palette[code] for code in known.tolist()], np.uint8)
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        target = np.where(known[place] == codes, indices[place], np.uint8(UNKNOWN))
        bad = target == UNKNOWN
        if bad.any():
            found = np.unique(codes[bad])
            shown = ", ".join(str([int(c) >> 16, int(c) >> 8 & 255, int(c) & 255]) for c in found[:4])
            raise DataError(
                f"{file}: color {shown}{', ...' if len(found) > 4 else ''} in {int(bad.sum())} of {codes.size} pixels "
                "belongs to no class",
                hint="add it to `colors` or `ignore`; JPEG masks never have exact colors, use PNG",
            )
        return target


def _rebuild(arguments: Mapping[str, Any]) -> Folder:
    return Folder(**arguments)


def class_ids(classes: list[str] | dict[str, int | list[int]], title: str) -> dict[str, tuple[int, ...]]:
    """Raw ids by class name, in class order. Raises ConfigError: too few, twice the same name or id, negative."""
    if isinstance(classes, list):
        ids: dict[str, tuple[int, ...]] = {name: (index,) for index, name in enumerate(classes)}
        if len(ids) != len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise ConfigError(f"folder '{title}': class '{twice}' is named twice")
    else:
        ids = {name: tuple(value) if isinstance(value, list) else (value,) for name, value in classes.items()}
    if not 2 <= len(ids) <= MAX_CLASSES:
        raise ConfigError(f"folder '{title}': {len(ids)} classes, it must be 2 to {MAX_CLASSES}")
    owner: dict[int, str] = {}
    for name, group in ids.items():
        if not name.strip() or not group:
            raise ConfigError(f"folder '{title}': class '{name}' has no {'name' if group else 'id'}")
        for value in group:
            if not 0 <= value <= MAX_ID:
                raise ConfigError(f"folder '{title}': id {value} of class '{name}' is not in 0..{MAX_ID}")
            if value in owner:
                raise ConfigError(f"folder '{title}': id {value} belongs to both '{owner[value]}' and '{name}'")
            owner[value] = name
    return dict(sorted(ids.items(), key=lambda item: min(item[1])))


def ignored(
    ignore: list[int | list[int]] | None, ids: Mapping[str, tuple[int, ...]], title: str
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Ignored ids and ignored colours. Raises ConfigError when an id is a class's too, or is no id or colour."""
    owner = {value: name for name, group in ids.items() for value in group}
    if ignore is None:
        return [i for i in (IGNORE_INDEX,) if i not in owner], []
    numbers = [entry for entry in ignore if isinstance(entry, int)]
    for value in numbers:
        if value in owner:
            raise ConfigError(f"folder '{title}': id {value} is ignored, but it is class '{owner[value]}'")
        if not 0 <= value <= MAX_ID:
            raise ConfigError(f"folder '{title}': ignored id {value} is not in 0..{MAX_ID}")
    triples = [entry for entry in ignore if isinstance(entry, list)]
    for triple in triples:
        _check_color(triple, f"folder '{title}': ignored color")
    return numbers, [_rgb(triple) for triple in triples]


def color_map(
    colors: Mapping[str, list[int]] | None,
    ignored_colors: list[tuple[int, int, int]],
    names: tuple[str, ...],
    title: str,
) -> dict[int, int] | None:
    """Class index (or IGNORE_INDEX) by colour 0xRRGGBB, None without colours. Raises ConfigError."""
    if colors is None:
        return None
    if missing := [name for name in names if name not in colors]:
        raise ConfigError(f"folder '{title}': no color for class '{missing[0]}'", hint="give a color for every class")
    if foreign := [name for name in colors if name not in names]:
        raise ConfigError(f"folder '{title}': a color for '{foreign[0]}', which is no class")
    found: dict[int, int] = {}
    entries = [(name, colors[name], index) for index, name in enumerate(names)]
    entries += [("ignored", list(triple), IGNORE_INDEX) for triple in ignored_colors]
    for name, triple, index in entries:
        _check_color(triple, f"folder '{title}': the color of '{name}'")
        code = triple[0] << 16 | triple[1] << 8 | triple[2]
        if code in found:
            raise ConfigError(f"folder '{title}': color {triple} is given twice", hint="every class needs its own")
        found[code] = index
    return found


def _check_color(triple: list[int], what: str) -> None:
    if len(triple) != 3 or not all(0 <= value <= 255 for value in triple):
        raise ConfigError(f"{what} must be [red, green, blue] of 0..255, got {triple}")


def _rgb(triple: list[int]) -> tuple[int, int, int]:
    return triple[0], triple[1], triple[2]


def distinct_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` well separated RGB colours: hues by the golden ratio, three levels of brightness."""
    rows = [colorsys.hsv_to_rgb(i * 0.618034 % 1, 0.75, (0.95, 0.7, 0.5)[i % 3]) for i in range(count)]
    return tuple((round(r * 255), round(g * 255), round(b * 255)) for r, g, b in rows)


def _ranges(ids: Any) -> str:
    """`0..10, 255`: ids in short."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}..{high}" for low, high in runs)
