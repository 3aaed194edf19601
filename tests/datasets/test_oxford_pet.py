from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lossbench.datasets.base import WARNING
from lossbench.datasets.oxford_pet import VAL_SHARE, OxfordPet
from lossbench.errors import DataError
from lossbench.registry import Registry
from tests.datasets.catalogue_trees import PETS, oxford_pet
from tests.datasets.trees import pair, save


def make(root: Path, **params: Any) -> Any:
    return Registry("dataset").get("oxford_pet").build(params, root=root)


@pytest.mark.parametrize("below", ["", "oxford-iiit-pet"])
@pytest.mark.parametrize(
    ("border", "expected"), [("ignored", [1, 0, 255]), ("foreground", [1, 0, 1]), ("class", [1, 0, 2])]
)
def test_what_the_border_is(tmp_path: Path, below: str, border: str, expected: list[int]) -> None:
    dataset = make(oxford_pet(tmp_path, below), border=border)
    for index, name in enumerate(PETS["test"]):
        raw = np.asarray(Image.open(tmp_path / below / "annotations/trimaps" / f"{name}.png"))
        assert set(np.unique(raw)) == {1, 2, 3}
        assert (dataset.load("test", index)[1] == np.array([0, *expected])[raw]).all()
    assert dataset.class_names == ("background", "pet", "border")[: 3 if border == "class" else 2]


def test_the_border_is_in_the_fingerprint(tmp_path: Path) -> None:
    oxford_pet(tmp_path)
    assert make(tmp_path).fingerprint("train") == make(tmp_path, border="ignored").fingerprint("train")
    prints = {make(tmp_path, border=border).fingerprint("train") for border in ("ignored", "foreground", "class")}
    assert len(prints) == 3


def test_official_lists_and_a_val_that_is_not_test(tmp_path: Path) -> None:
    dataset = make(oxford_pet(tmp_path))
    assert dataset.splits == ("train", "val", "test")
    assert dataset.names("trainval") == PETS["trainval"]
    assert dataset.names("test") == PETS["test"]
    train, val = dataset.names("train"), dataset.names("val")
    assert len(val) == 2
    assert sorted(train + val) == sorted(PETS["trainval"])
    assert train == tuple(name for name in PETS["trainval"] if name in train), "in the order of the list"
    counts = OxfordPet.expected_counts
    assert counts["val"][0] == round(VAL_SHARE * 3680) == 3680 - counts["train"][0]


def test_the_archives_are_those_torchvision_fetches() -> None:
    from torchvision.datasets import OxfordIIITPet

    assert tuple((archive.url, archive.md5) for archive in OxfordPet.archives) == OxfordIIITPet._RESOURCES


def odd_images(folder: Path, names: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """Files as the archive has them, all called .jpg; (name, what is to be seen)."""
    rng = np.random.default_rng(0)
    seen = []
    indices = rng.integers(0, 8, (24, 32), dtype=np.uint8)
    palette = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    for name, form, transparency in ((names[0], "GIF", 3), (names[1], "PNG", bytes(range(0, 256, 32)))):
        picture = Image.fromarray(indices)
        picture.putpalette(palette.tobytes())
        picture.save(folder / f"{name}.jpg", form, transparency=transparency)
        seen.append((name, palette[indices]))
    rgba = rng.integers(0, 256, (24, 32, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(folder / f"{names[2]}.jpg", "PNG")
    Image.fromarray(rgba[..., 0]).save(folder / f"{names[3]}.jpg", "PNG")
    seen += [(names[2], rgba[..., :3]), (names[3], np.stack([rgba[..., 0]] * 3, -1))]
    file = save(folder / f"{names[4]}.jpg", rgba[..., :3])
    clean = np.asarray(Image.open(file))
    content = file.read_bytes()
    file.write_bytes(content[:-2] + b"\x12" * 240 + content[-2:])  # "240 extraneous bytes before marker 0xd9"
    return [*seen, (names[4], clean)]


def test_odd_images_are_rgb_without_a_warning(tmp_path: Path) -> None:
    oxford_pet(tmp_path)
    names = PETS["trainval"]
    expected = odd_images(tmp_path / "images", names)
    for name, _ in expected:
        save(tmp_path / "annotations/trimaps" / f"{name}.png", pair(0, [1, 2, 3])[1])
    dataset = make(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, seen in expected:
            image, _ = dataset.load("trainval", names.index(name))
            assert image.shape == (24, 32, 3)
            assert (image == seen).all(), name


def test_what_is_cut_off_is_an_error(tmp_path: Path) -> None:
    dataset = make(oxford_pet(tmp_path))
    file = dataset.files("test")[0]
    file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(DataError, match=r"Abyssinian_201\.jpg: corrupt image"):
        dataset.load("test", 0)


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="oxford_pet: no annotations in") as caught:
        make(tmp_path).names("train")
    assert "lossbench data get oxford_pet" in (caught.value.hint or "")
    dataset = make(oxford_pet(tmp_path))
    problems = dataset.check()
    assert all(problem.startswith(WARNING) for problem in problems)
    assert "train: 8 images, the published split has 2944" in problems[0]
    assert "trainval.txt: 10 images, the published list has 3680" in problems[-1]
    save(dataset.files("test")[1], np.zeros((24, 32), np.uint8))
    with pytest.raises(DataError, match=r"id 0 out of range .*1 = pet, 2 = background, 3 = border"):
        dataset.load("test", 0)
    (tmp_path / "annotations/trimaps/Ragdoll_3.png").unlink()
    with pytest.raises(DataError, match=r"Ragdoll_3\.jpg: no label .*trimaps/Ragdoll_3\.png"):
        make(tmp_path).names("test")
    (tmp_path / "images/pug_1.jpg").unlink()
    with pytest.raises(DataError, match=r"trainval has pug_1, but there is no .*pug_1\.jpg \(1 are missing\)"):
        make(tmp_path).names("trainval")
    (tmp_path / "annotations/test.txt").unlink()
    with pytest.raises(DataError, match=r"oxford_pet: no .*annotations/test\.txt"):
        make(tmp_path).names("test")
    with pytest.raises(DataError, match="oxford_pet has no split 'vall'"):
        make(tmp_path).names("vall")
