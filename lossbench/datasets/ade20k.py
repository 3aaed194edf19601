"""ADE20K, the Scene Parsing Benchmark's part of it: 150 classes of indoor and outdoor scenes.

Source: Zhou et al., "Scene parsing through ADE20K dataset", CVPR 2017; the benchmark's development kit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from lossbench.datasets._ade20k import CLASSES
from lossbench.datasets._official import Archive
from lossbench.datasets._pairwise import PairDataset
from lossbench.datasets._reading import id_table
from lossbench.registry import register_dataset

_FOLDERS = {"train": "training", "val": "validation"}


@register_dataset("ade20k")
class ADE20K(PairDataset):
    """ADE20K scene parsing: 150 classes, 20210/2000 images of many sizes.

    `{root}/images/{training,validation}/*.jpg` and `{root}/annotations/{training,validation}/*.png`, or both below
    `{root}/ADEChallengeData2016`, as the archive unpacks.

    Traps:
        - Label files hold 1..150; 0 is "other objects", which is ignored and is no class. Elsewhere this is called
          "reduce zero label". Files that a toolbox has reduced already (0..149 and 255) would be read off by one: 255
          in a file is an error here.
        - The full ADE20K (`ADE20K_2021_17_01`, thousands of raw classes in RGB files `*_seg.png`) is another dataset.
        - Images have many sizes, and scores depend on how they are resized. Here they are scored at their own size.
        - `wall` has 16 % of the pixels, `flag` 0.02 %, and `tent` and `swimming pool` are in 3 images of validation:
          the mean over 150 classes rests on such classes as much as on `wall`.
    """

    licence: ClassVar[str] = "images for non-commercial research and education; annotations BSD 3-clause"
    how_to_get: ClassVar[str] = (
        "`lossbench data get ade20k` downloads ADEChallengeData2016.zip (0.9 GB, no registration) and unpacks it there"
    )
    homepage: ClassVar[str] = "http://sceneparsing.csail.mit.edu/"
    archives: ClassVar[Sequence[Archive]] = (
        Archive(
            "ADEChallengeData2016.zip",
            "images and labels, 0.9 GB",
            url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            md5="7328b3957e407ddae1d3cbf487f149ef",
            top="ADEChallengeData2016",
        ),
    )
    expected_counts: ClassVar[Mapping[str, Sequence[int]]] = {"train": (20210,), "val": (2000,)}
    registered: ClassVar[str] = "ade20k"
    known_ids: ClassVar[str] = "0..150; 255 is in files that were reduced to 0..149 already"
    label_files: ClassVar[str] = "annotations/ of ADEChallengeData2016, not the full ADE20K's *_seg.png"

    def __init__(self, root: Path) -> None:
        self.class_names, self.colors = tuple(CLASSES), tuple(CLASSES.values())
        self.official_ids = range(1, len(CLASSES) + 1)
        self._set_up(root, id_table([[i] for i in self.official_ids], [0]))

    def _folder(self, kind: str, split: str) -> Path:
        return self._base(("", "ADEChallengeData2016"), "images", "annotations") / kind / _FOLDERS[split]

    def _images(self, split: str) -> Mapping[str, Path]:
        return self._listed(self._folder("images", split), "*.jpg")

    def _labels(self, split: str) -> Mapping[str, Path]:
        return self._listed(self._folder("annotations", split), "*.png")

    def _label_place(self, split: str, name: str) -> Path:
        return self._folder("annotations", split) / f"{name}.png"
