from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.data.batches import TrainBatches, eval_batches
from lossbench.data.cache import open_split
from lossbench.datasets._voc import VOC2010_ARCHIVE, voc_colors
from lossbench.datasets.base import WARNING
from lossbench.datasets.voc2010 import VOC2010
from lossbench.errors import DataError
from lossbench.protocol import Protocol
from tests.datasets import trees

BELOW = ["VOCdevkit/VOC2010", "VOC2010", ""]


@pytest.mark.parametrize("below", BELOW)
def test_the_devkit_is_found_where_it_may_be(tmp_path: Path, below: str) -> None:
    dataset = VOC2010(trees.voc2010(tmp_path, below))
    assert dataset.names("train") == trees.VOC_NAMES["train"]
    for index, name in enumerate(dataset.names("train")):
        raw = np.asarray(Image.open(tmp_path / below / "SegmentationClass" / f"{name}.png"))
        image, target = dataset.load("train", index)
        assert (target == raw).all()
        assert image.shape == (*trees.VOC_SIZES[index], 3)


def test_trainval_is_there_when_listed(tmp_path: Path) -> None:
    dataset = VOC2010(trees.voc2010(tmp_path, ""))
    with pytest.raises(DataError, match="no ImageSets/Segmentation/trainval"):
        dataset.names("trainval")
    both = [*trees.VOC_NAMES["train"], *trees.VOC_NAMES["val"]]
    (tmp_path / "ImageSets/Segmentation/trainval.txt").write_text("\n".join(both))
    assert dataset.names("trainval") == tuple(both)


def test_colors_are_voc_s() -> None:
    colors = dict(zip(VOC2010(Path()).class_names, voc_colors(21), strict=True))
    assert colors["background"] == (0, 0, 0)
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["bird"] == (128, 128, 0)
    assert colors["person"] == (192, 128, 128)
    assert colors["tvmonitor"] == (0, 64, 128)
    assert len(set(voc_colors(256))) == 256
    assert voc_colors(256)[255] == (224, 224, 192)  # the cream of borders


def test_the_archive_is_the_one_torchvision_fetches() -> None:
    from torchvision.datasets import voc

    theirs = voc.DATASET_YEAR_DICT["2010"]
    assert (VOC2010_ARCHIVE.file, VOC2010_ARCHIVE.md5) == (theirs["filename"], theirs["md5"])


def test_problems_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no JPEGImages in") as caught:
        VOC2010(tmp_path).names("train")
    assert "lossbench data get voc2010" in (caught.value.hint or "")
    base = trees.voc2010(tmp_path) / "VOCdevkit" / "VOC2010"
    problems = VOC2010(tmp_path).check()
    assert len(problems) == 2
    assert all(p.startswith(WARNING) for p in problems)
    assert "2 images, the published split has 964" in problems[1]
    (base / "SegmentationClass" / "2010_000003.png").unlink()
    with pytest.raises(DataError, match=r"2010_000003\.jpg: no label .*SegmentationClass/2010_000003\.png$"):
        VOC2010(tmp_path).names("val")
    (base / "JPEGImages" / "2009_000015.jpg").unlink()
    with pytest.raises(DataError, match=r"train\.txt lists 2009_000015, but there is no"):
        VOC2010(tmp_path).names("train")


def test_images_of_many_sizes_pass_the_cache_and_native_evaluation(tmp_path: Path) -> None:
    dataset = VOC2010(trees.voc2010(tmp_path / "data"))
    split = open_split(dataset, "train", cache_root=tmp_path / "cache")
    seen = []
    for indices, images, targets in eval_batches(split):
        for place, index in enumerate(indices):
            image, target = dataset.load("train", index)
            assert (images[place].permute(1, 2, 0).numpy() == image).all()
            assert (targets[place].numpy() == target).all()
            seen.append(target.shape)
    assert seen == list(trees.VOC_SIZES)
    protocol = Protocol(iterations=2, batch_size=3, crop=[40, 28])  # larger and smaller than the images
    images, targets = TrainBatches(split, protocol, key="k").batch(0)
    assert images.shape == (3, 3, 40, 28)
    assert set(targets.unique().tolist()) <= {*range(21), 255}
