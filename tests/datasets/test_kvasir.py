from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lossbench.datasets._pairwise import divide
from lossbench.datasets.base import WARNING
from lossbench.datasets.kvasir import VAL_SHARE, Kvasir
from lossbench.errors import DataError
from tests.datasets.catalogue_trees import KVASIR_SIZES, kvasir, polyp
from tests.datasets.trees import pair, save


@given(st.sets(st.text("abc123", min_size=1, max_size=6), min_size=2, max_size=60), st.floats(0.05, 0.5))
def test_dividing_is_by_name_alone(names: set[str], share: float) -> None:
    train, val = divide(sorted(names), share)
    assert len(val) == max(1, round(share * len(names)))
    assert set(train) | set(val) == names
    assert not set(train) & set(val)
    again = divide(sorted(names, reverse=True), share)
    assert (set(again[0]), set(again[1])) == (set(train), set(val)), "the order of the names does not count"
    assert list(train) == sorted(train), "and is kept"


def test_dividing_never_changes() -> None:
    """Records rest on it: 880/120 as published lists have, the very same names."""
    names = [f"image{i}" for i in range(1000)]
    train, val = divide(names, VAL_SHARE)
    assert (len(train), len(val)) == (880, 120)
    assert val[:4] == ("image0", "image6", "image34", "image36")
    assert set(val) == set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:120])


@pytest.mark.parametrize("below", ["Kvasir-SEG", "", "kvasir-seg/Kvasir-SEG"])
def test_jpeg_noise_is_no_polyp(tmp_path: Path, below: str) -> None:
    dataset = Kvasir(kvasir(tmp_path, below))
    assert (len(dataset.names("train")), len(dataset.names("val"))) == (22, 3)
    noisy = 0
    for split in dataset.splits:
        for index, name in enumerate(dataset.names(split)):
            number = int(name[-2:])
            raw = np.asarray(Image.open(tmp_path / below / "masks" / f"{name}.jpg"))
            noisy += int(((raw > 0) & (raw < 255)).sum())
            truth = polyp(number, KVASIR_SIZES[number % 2]) > 0
            assert (dataset.load(split, index)[1] == truth).all()
    assert noisy > 1000, "there is noise to be read through"
    assert dataset.notes == ("split: by hash of the name, 12 % to val (no train.txt and val.txt there)",)


def test_one_channel_and_the_threshold(tmp_path: Path) -> None:
    dataset = Kvasir(kvasir(tmp_path, ""))
    image, mask = dataset.files("val")[:2]
    greys = np.zeros((64, 80), np.uint8)
    greys[:8, :40], greys[:8, 40:] = 128, 120  # whole blocks of JPEG: they come back as they are
    save(image, np.zeros((64, 80, 3), np.uint8))
    save(mask, greys, quality=100)
    assert (np.asarray(Image.open(mask)) == greys).all()
    assert (dataset.load("val", 0)[1] == (greys == 128)).all()


def lists(root: Path, train: list[str], val: list[str]) -> None:
    root.mkdir(exist_ok=True)
    (root / "train.txt").write_text("\n".join(train))
    (root / "val.txt").write_text("\n".join(val))


@pytest.mark.parametrize("where", [".", "kvasir-seg-train-val"])
@pytest.mark.parametrize("form", ["{}", "{}.jpg", "images/{}.jpg"])
def test_lists_are_the_split_where_they_are(tmp_path: Path, where: str, form: str) -> None:
    kvasir(tmp_path, "")
    names = [f"cju0qkwl35piu0993l0dewe{index:02d}" for index in range(25)]
    before = Kvasir(tmp_path).fingerprint("val")
    lists(tmp_path / where, [form.format(n) for n in names[5:]], [form.format(n) for n in names[:5]])
    dataset = Kvasir(tmp_path)
    assert dataset.names("val") == tuple(names[:5])
    assert dataset.names("train") == tuple(names[5:])
    assert dataset.fingerprint("val") != before
    (note,) = dataset.notes
    assert note.startswith("split: train.txt and val.txt, checksum ")
    lists(tmp_path / where, names[6:], names[:6])
    assert Kvasir(tmp_path).notes[0] != note
    assert not [p for p in Kvasir(tmp_path).check() if not p.startswith(WARNING)]
    lists(tmp_path / where, names[8:], names[:6])
    assert any("2 of 25 images are in neither" in problem for problem in Kvasir(tmp_path).check())


def test_lists_that_leak_or_lie_are_refused(tmp_path: Path) -> None:
    kvasir(tmp_path, "")
    names = [f"cju0qkwl35piu0993l0dewe{index:02d}" for index in range(25)]
    lists(tmp_path, names[4:], names[:5])
    with pytest.raises(DataError, match=rf"{names[4]} is in train\.txt and in val\.txt \(1 such"):
        Kvasir(tmp_path).names("train")
    lists(tmp_path, names[5:], ["nobody"])
    with pytest.raises(DataError, match=r"val\.txt lists nobody, but there is no nobody\.jpg in images"):
        Kvasir(tmp_path).names("train")
    (tmp_path / "train.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt is there, but no train\.txt"):
        Kvasir(tmp_path).names("train")
    assert any("but no train.txt" in problem for problem in Kvasir(tmp_path).check())


def test_what_is_missing_or_odd_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kvasir: no images in") as caught:
        Kvasir(tmp_path).names("train")
    assert "kvasir-seg.zip" in (caught.value.hint or "")
    dataset = Kvasir(kvasir(tmp_path, ""))
    problems = dataset.check()
    assert all(problem.startswith(WARNING) for problem in problems)
    assert "22 images, the published split has 880" in problems[0]
    image, mask = dataset.files("val")[:2]
    shutil.copy(image, mask)
    with pytest.raises(DataError, match=r"\.jpg: \d+ % of the pixels are .*: not a mask of 0 and 255"):
        dataset.load("val", 0)
    save(mask, np.full((64, 80), 100, np.uint8))
    with pytest.raises(DataError, match="100 % of the pixels are neither dark nor bright"):
        dataset.load("val", 0)
    mask.unlink()
    with pytest.raises(DataError, match=r"no label .*/masks/cju"):
        Kvasir(tmp_path).names("val")
    kvasir(tmp_path, "")
    save(tmp_path / "masks" / "stray.jpg", pair(0, [0, 255])[1])
    (stray,) = [problem for problem in Kvasir(tmp_path).check() if "without an image" in problem]
    assert "train: 1 labels without an image, the first: " in stray
