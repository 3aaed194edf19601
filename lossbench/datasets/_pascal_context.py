"""Reading PASCAL-Context: its 59 frequent classes, its two layouts of labels, its two lists of images.

Source: Mottaghi et al., "The role of context for object detection and semantic segmentation in the wild", CVPR 2014.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lossbench.datasets._official import Archive, OfficialDataset, grey, paired
from lossbench.datasets._reading import id_table, map_ids, read_image, read_mask, same_size
from lossbench.datasets._voc import VOC2010_ARCHIVE, find, places, read_list, voc_colors
from lossbench.datasets.base import IGNORE_INDEX
from lossbench.errors import DataError, did_you_mean

#: The 59 classes of the usual protocol and their ids among the 459 of the .mat files. A converted PNG numbers them
#: 1..59 in this order.
CONTEXT_IDS: dict[str, int] = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25, "boat": 31,
    "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59, "cat": 65, "ceiling": 68,
    "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104, "curtain": 105, "dog": 113, "door": 115,
    "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189, "horse": 207,
    "keyboard": 220, "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295,
    "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354,
    "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416, "tree": 420,
    "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454, "wood": 458,
}  # fmt: skip
#: Ids of a LabelMap, 0 for unlabelled.
_MAT_IDS = range(460)
_SPLITS = ("train", "val")
_DETAIL = "trainval_merged.json"


class ContextDataset(OfficialDataset):
    """What the variants of PASCAL-Context share; each says which classes it has.

    Images are VOC 2010's. They, and the labels, may lie in the dataset's own folder or in one `beside` it. Labels are
    the `.mat` files of the official archive (`trainval/*.mat`, LabelMap uint16), or else PNGs converted by a toolbox
    (`SegmentationClassContext/*.png`).
    """

    licence: ClassVar[str] = "images under Flickr's terms of use; labels for research"
    how_to_get: ClassVar[str] = (
        "unpack trainval.tar.gz of cs.stanford.edu/~roozbeh/pascal-context there (trainval/*.mat); the images are VOC "
        "2010's: `lossbench data get voc2010`"
    )
    homepage: ClassVar[str] = "https://cs.stanford.edu/~roozbeh/pascal-context/"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "trainval.tar.gz",
            "labels of 10103 images",
            url="https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
            top="trainval",
        ),
        Archive(VOC2010_ARCHIVE.file, "images, 1.3 GB; a copy in the folder of voc2010 is found, too", top="VOCdevkit"),
    )
    beside: ClassVar[Sequence[str]] = ("pascal_context", "voc2010")
    #: The VOC lists Main/{train,val}.txt, and those of the Detail API, which leaves three images out.
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (4998, 4996), "val": (5105, 5104)}

    def _read_as(self, root: Path, classes: Sequence[str], *, background: bool = False) -> None:
        """Set up: `classes` of the 59 count, everything else is ignored or, with `background`, class 0."""
        self.root = Path(root)
        names = list(CONTEXT_IDS)
        numbers = [names.index(name) + 1 for name in classes]
        self.class_names = (*(["background"] if background else []), *classes)
        palette = voc_colors(len(names) + 1)
        self.colors = tuple(palette[i] for i in ([0] if background else []) + numbers)
        self._mat_table = _table([CONTEXT_IDS[name] for name in classes], _MAT_IDS, background)
        self._png_table = _table(numbers, range(len(names) + 1), background)
        self._splits = cache(self._find_split)

    def names(self, split: str) -> tuple[str, ...]:
        """Image names in the order of the list. Raises DataError."""
        return tuple(image.stem for image, _ in self._splits(split))

    def files(self, split: str) -> list[Path]:
        """Images and label files of the split, in order. Raises DataError."""
        return [file for pair in self._splits(split) for file in pair]

    def fingerprint(self, split: str) -> str:
        """As the base class, over the classes too: the variants read the same files."""
        return hashlib.sha256(json.dumps([super().fingerprint(split), self.class_names]).encode()).hexdigest()[:12]

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Image (H, W, 3) and target (H, W) with class indices and 255. Raises DataError."""
        image_file, label_file = self._splits(split)[index]
        image = read_image(image_file)
        if label_file.suffix == ".mat":
            raw, table, expected = read_label_map(label_file), self._mat_table, "0..459"
        else:
            raw, table, expected = read_mask(label_file), self._png_table, "0..59, 255 = ignored"
            grey(raw, label_file, "a PNG with 0..59")
        same_size(image, raw, image_file, label_file)
        return image, map_ids(raw, table, label_file, expected)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which labels and which list were read: two lists of almost the same images are in use."""
        source = self._source
        return (f"labels: {source.labels.name}/*{source.suffix}, split list: {source.list_name}",)

    @cached_property
    def _source(self) -> Source:
        return Source.of([self.root, *(self.root.parent / name for name in self.beside)], type(self).how_to_get)

    def _find_split(self, split: str) -> tuple[tuple[Path, Path], ...]:
        if split not in _SPLITS:
            raise DataError(f"pascal_context has no split '{split}'", hint=did_you_mean(split, _SPLITS) or "train, val")
        source = self._source
        images, labels = {}, {}
        for name in source.names(split):
            images[name] = source.images / f"{name}.jpg"
            if not images[name].is_file():
                raise DataError(f"{source.list_name} lists {name}, but there is no {images[name]}")
            if (label := source.labels / f"{name}{source.suffix}").is_file():
                labels[name] = label
        paired(images, labels, f"{source.labels}/{{name}}{source.suffix}")
        return tuple((images[name], labels[name]) for name in images)


@dataclass(frozen=True)
class Source:
    """Where images, labels and the list of a copy lie. `list_name`: for people, without the folders above."""

    images: Path
    labels: Path
    suffix: str
    lists: Path
    list_name: str

    @classmethod
    def of(cls, roots: Sequence[Path], how_to_get: str) -> Source:
        """Look for each part in all of `roots`. The official labels come before converted ones; their list is the
        Detail API's JSON where that is there. Raises DataError: what is missing."""
        where = places(*roots)
        images = find(where, "JPEGImages")
        mats = next((f for f in (place / "trainval" for place in where) if next(f.glob("*.mat"), None)), None)
        pngs = find(where, "SegmentationClassContext")
        detail = find(where, _DETAIL)
        main, converted = find(where, "ImageSets/Main"), find(where, "ImageSets/SegmentationContext")
        labels, suffix = (mats, ".mat") if mats is not None else (pngs, ".png")
        lists = detail or main if mats is not None else converted or detail
        if images is not None and labels is not None and lists is not None:
            shown = _DETAIL if lists == detail else f"ImageSets/{lists.name}/{{train,val}}.txt"
            return cls(images, labels, suffix, lists, shown)
        missing = (
            "labels (trainval/*.mat, or SegmentationClassContext/*.png)"
            if labels is None
            else "images (VOCdevkit/VOC2010/JPEGImages)"
            if images is None
            else "list of images (ImageSets/Main for .mat labels, ImageSets/SegmentationContext for PNG labels)"
        )
        raise DataError(
            f"pascal_context: no {missing} in {roots[0]}",
            hint=f"{how_to_get}; another place: --data-root or LOSSBENCH_DATA",
        )

    def names(self, split: str) -> tuple[str, ...]:
        """Names of a split. Raises DataError."""
        if self.lists.is_file():
            return detail_names(self.lists, self.lists.stat().st_mtime_ns)[split]
        return read_list(self.lists / f"{split}.txt")


def _table(ids: Sequence[int], known: Sequence[int], background: bool) -> NDArray[np.uint8]:
    """Look-up table from raw id: `ids` in order, the other known ones to background or ignored."""
    groups = [[i] for i in ids]
    others = sorted(set(known) - set(ids))
    return id_table([others, *groups], [IGNORE_INDEX]) if background else id_table(groups, [*others, IGNORE_INDEX])


def read_label_map(file: Path) -> NDArray[np.int64]:
    """`LabelMap` (H, W) of a .mat file, uint16 there. Raises DataError."""
    from scipy.io import loadmat  # slow to import, and only this layout needs it

    try:
        found = loadmat(file, variable_names=["LabelMap"])
    except Exception as error:  # a damaged file fails in the reader, in zlib or in numpy, each in its own way
        raise DataError(f"{file}: cannot be read ({type(error).__name__}: {error})") from error
    if "LabelMap" not in found:
        raise DataError(f"{file}: holds no LabelMap", hint="these are not the files of trainval.tar.gz")
    label_map: NDArray[Any] = np.asarray(found["LabelMap"])
    if label_map.ndim != 2 or label_map.dtype.kind not in "iu":
        raise DataError(f"{file}: LabelMap must be (H, W) integers, got {label_map.dtype} {label_map.shape}")
    return label_map.astype(np.int64)


@lru_cache(maxsize=2)
def detail_names(file: Path, _mtime_ns: int = 0) -> dict[str, tuple[str, ...]]:
    """Image names by split of the Detail API's JSON, sorted. Raises DataError.

    The file has hundreds of megabytes of annotations: only the objects with a `file_name` are parsed.
    """
    found: dict[str, list[str]] = {split: [] for split in _SPLITS}
    try:
        with file.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as data:
            at = data.find(b'"file_name"')
            while at >= 0:
                end = data.find(b"}", at) + 1
                entry = json.loads(data[data.rfind(b"{", 0, at) : end])
                found.setdefault(str(entry["phase"]), []).append(Path(entry["file_name"]).stem)
                at = data.find(b'"file_name"', end)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not the Detail API's list of images ({error})") from None
    if not all(found[split] for split in _SPLITS):
        raise DataError(f"{file}: lists no images of train and val")
    return {split: tuple(sorted(set(names))) for split, names in found.items()}
