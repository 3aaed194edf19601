"""Datasets with one fault each: every rule about datasets must be able to fail. A plugin file, loaded by path."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np

from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError
from lossbench.registry import register_dataset


@register_dataset("sound")
class Sound(SegmentationDataset):
    """Nothing wrong: {root}/{split}/{name}.npy, an image in the first three channels and a target in the fourth."""

    licence = "none"
    how_to_get = "make it"
    class_names = ("a", "b", "c")
    colors = ((0, 0, 0), (255, 0, 0), (0, 255, 0))

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self, split: str) -> list[Path]:
        found = sorted((self.root / split).glob("*.npy"))
        if not found:
            raise DataError(f"no split {split}")
        return found

    def names(self, split: str) -> list[str]:
        return [file.stem for file in self.files(split)]

    def load(self, split: str, index: int):
        stored = np.load(self.files(split)[index])
        return stored[..., :3], stored[..., 3]


@register_dataset("undocumented")
class Undocumented(Sound):
    pass


@register_dataset("unlicensed")
class Unlicensed(Sound):
    """Does not say what one may do with it."""

    licence = ""


@register_dataset("same_colors")
class SameColors(Sound):
    """Two classes that no picture tells apart."""

    colors = ((0, 0, 0), (255, 0, 0), (255, 0, 0))


@register_dataset("void_is_a_class")
class VoidIsAClass(Sound):
    """Class 0 counts for nothing."""

    ignore_index = 0


@register_dataset("not_a_dataset")
class NotADataset:
    """A list of pairs."""

    def __init__(self, root: Path) -> None:
        self.root = root


@register_dataset("unordered")
class Unordered(Sound):
    """Names in another order every time."""

    def files(self, split: str) -> list[Path]:
        return random.sample(found := super().files(split), len(found))


@register_dataset("twins")
class Twins(Sound):
    """All images have one name."""

    def names(self, split: str) -> list[str]:
        return ["image" for _ in self.files(split)]


@register_dataset("any_split")
class AnySplit(Sound):
    """A split that does not exist is an empty one."""

    def files(self, split: str) -> list[Path]:
        return sorted((self.root / split).glob("*.npy"))


@register_dataset("key_error")
class KeyErrors(Sound):
    """A split that does not exist is a KeyError."""

    def files(self, split: str) -> list[Path]:
        return super().files({"train": "train", "val": "val"}[split])


@register_dataset("foreign_id")
class ForeignId(Sound):
    """Label 7 of three classes."""

    def load(self, split: str, index: int):
        image, target = super().load(split, index)
        target[0, 0] = 7
        return image, target


@register_dataset("other_size")
class OtherSize(Sound):
    """Targets of half the size."""

    def load(self, split: str, index: int):
        image, target = super().load(split, index)
        return image, target[::2, ::2]


@register_dataset("only_void")
class OnlyVoid(Sound):
    """Nothing is labelled."""

    def load(self, split: str, index: int):
        image, target = super().load(split, index)
        return image, np.full_like(target, 255)


@register_dataset("augments")
class Augments(Sound):
    """Flips at random."""

    def load(self, split: str, index: int):
        image, target = super().load(split, index)
        return (image[:, ::-1], target[:, ::-1]) if random.random() < 0.5 else (image, target)


@register_dataset("draws")
class Draws(Sound):
    """Uses up random numbers for nothing."""

    def load(self, split: str, index: int):
        np.random.rand()  # noqa: NPY002
        return super().load(split, index)


@register_dataset("shared_buffer")
class SharedBuffer(Sound):
    """Decodes into one buffer for all threads."""

    def load(self, split: str, index: int):
        self.current = np.load(self.files(split)[index])
        time.sleep(0.002)
        return self.current[..., :3], self.current[..., 3]


@register_dataset("locked")
class Locked(Sound):
    """A lock cannot be pickled."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.lock = threading.Lock()


@register_dataset("second_load")
class SecondLoad(Sound):
    """One class less once it is read through a cache, whose threads are not the main one."""

    def load(self, split: str, index: int):
        image, target = super().load(split, index)
        if threading.current_thread() is not threading.main_thread():
            target[target == 2] = 255
        return image, target


@register_dataset("stale_cache")
class StaleCache(Sound):
    """A fingerprint of the names alone."""

    def fingerprint(self, split: str) -> str:
        return "".join(self.names(split))[:12].replace("_", "") + split


@register_dataset("one_fingerprint")
class OneFingerprint(Sound):
    """Both splits share a cache."""

    def fingerprint(self, split: str) -> str:
        self.files(split)
        return super().fingerprint("train")


@register_dataset("forgets_files")
class ForgetsFiles(Sound):
    """Reads a file that it does not list."""

    def load(self, split: str, index: int):
        np.load(self.root / "train" / "image0.npy")
        return super().load(split, index)


@register_dataset("leaks")
class Leaks(Sound):
    """val is a part of train."""

    def files(self, split: str) -> list[Path]:
        own = super().files(split)
        return own if split == "train" else [super().files("train")[0], *own[1:]]


@register_dataset("declared")
class Declared(Leaks):
    """val is a part of train, and it says so."""

    conformance_exceptions = {"disjoint": "val is a part of train on purpose"}  # noqa: RUF012
