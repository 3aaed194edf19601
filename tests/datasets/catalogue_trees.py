"""Small trees in the exact layouts of ade20k, loveda, bdd100k, kvasir and oxford_pet."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np

from tests.datasets.trees import pair, save

#: Heights and widths of photographs differ.
SIZES = ((24, 32), (32, 24), (25, 31))


def ade20k(root: Path, below: str = "ADEChallengeData2016") -> Path:
    """Grey masks of 0..150, and hidden files as macOS leaves them."""
    seeds = count()  # no two splits share an image
    for split, short, images in (("training", "train", 3), ("validation", "val", 2)):
        for index in range(images):
            image, mask = pair(next(seeds), list(range(151)), SIZES[index % 3])
            name = f"ADE_{short}_{index + 1:08d}"
            save(root / below / "images" / split / f"{name}.jpg", image)
            save(root / below / "annotations" / split / f"{name}.png", mask)
            for hidden in (f"images/{split}/._{name}.jpg", f"annotations/{split}/._{name}.png"):
                (root / below / hidden).write_bytes(b"\0\5\26\7")
    return root


def loveda(root: Path) -> Path:
    """Masks of 0..7; the same number in both scenes; a test without masks."""
    seeds = count()
    for split in ("Train", "Val", "Test"):
        for scene in ("Rural", "Urban"):
            for number in ("3", "12"):
                image, mask = pair(next(seeds), list(range(8)))
                save(root / split / scene / "images_png" / f"{number}.png", image)
                if split != "Test":
                    save(root / split / scene / "masks_png" / f"{number}.png", mask)
    return root


def bdd100k(root: Path, *, old: bool = False, below: str = "bdd100k") -> Path:
    """Train ids 0..18 and 255 as released since 2020, or as before (`old`); pictures of the labels beside them."""
    images, labels, suffix = ("seg/images", "seg/labels", "_train_id") if old else (
        "images/10k", "labels/sem_seg/masks", "",
    )  # fmt: skip
    seeds = count()
    colors = "seg/color_labels" if old else "labels/sem_seg/colormaps"
    for split, names in (("train", ("b1c66a42-6f7d68ca", "0a0a0b1a-7c39d841")), ("val", ("7d2f7975-e0c1c5a7",)),
                         ("test", ("cabc30fc-e7726578",))):  # fmt: skip
        for name in names:
            image, mask = pair(next(seeds), [*range(19), 255])
            save(root / below / images / split / f"{name}.jpg", image)
            if split != "test":
                save(root / below / labels / split / f"{name}{suffix}.png", mask)
                save(root / below / colors / split / f"{name}{'_train_color' if old else ''}.png", image)
    return root


def polyp(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A mask of 0 and 255 with a disc of 255."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    centre = np.random.default_rng(seed).uniform(0.4, 0.6, 2) * size
    inside: np.ndarray = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 0.06 * height * width
    return (255 * inside).astype(np.uint8)


#: Larger than the others: noise of JPEG reaches 8 pixels from an edge.
KVASIR_SIZES = ((64, 80), (72, 64))


def kvasir(root: Path, below: str = "Kvasir-SEG", images: int = 25) -> Path:
    """JPEG masks in three channels."""
    for index in range(images):
        size = KVASIR_SIZES[index % 2]
        image, mask = pair(index, [0], size)[0], polyp(index, size)
        name = f"cju0qkwl35piu0993l0dewe{index:02d}"
        save(root / below / "images" / f"{name}.jpg", image)
        save(root / below / "masks" / f"{name}.jpg", np.stack([mask] * 3, axis=-1), quality=75)
    return root


PETS = {
    "trainval": ("Abyssinian_100", "beagle_12", "Bombay_7", "pug_1", "Sphynx_30", "Siamese_2", "boxer_4", "Bengal_9",
                 "Persian_8", "havanese_5"),
    "test": ("Abyssinian_201", "american_bulldog_203", "Ragdoll_3"),
}  # fmt: skip


def oxford_pet(root: Path, below: str = "") -> Path:
    """Trimaps of 1..3, the lists of four columns, and what else lies in the archives' folders."""
    base = root / below
    seeds = count()
    for names in PETS.values():
        for index, name in enumerate(names):
            image, trimap = pair(next(seeds), [1, 2, 3], SIZES[index % 3])
            save(base / "images" / f"{name}.jpg", image)
            save(base / "annotations" / "trimaps" / f"{name}.png", trimap)
            (base / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"\0\5\26\7")
    for split, names in PETS.items():
        lines = [f"{name} {index + 1} {1 + name[0].islower()} 1\n" for index, name in enumerate(names)]
        (base / "annotations" / f"{split}.txt").write_text("".join(lines))
    (base / "images" / "Abyssinian_101.mat").write_bytes(b"MATLAB")
    save(base / "images" / "in_no_list_1.jpg", pair(9, [0])[0])
    return root


TREES = {"ade20k": ade20k, "loveda": loveda, "bdd100k": bdd100k, "kvasir": kvasir, "oxford_pet": oxford_pet}
