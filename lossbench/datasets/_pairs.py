"""Finding the image and mask pairs of a split in folders: what `folder` does before it decodes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from lossbench.datasets._reading import list_images
from lossbench.errors import DataError, did_you_mean

#: Order of split names that are known; others follow by name.
_USUAL = ("train", "training", "val", "validation", "test", "testing")


@dataclass(frozen=True)
class Pair:
    """An image and its mask. `name`: the path below the image folder, without extension and suffix."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class Layout:
    """Where images and masks lie. Patterns are relative to `base`; `{split}` in them is replaced by the split."""

    base: Path
    images: str
    masks: str
    image_suffix: str = ""
    mask_suffix: str = ""
    lists: str | None = None
    val_fraction: float | None = None

    def splits(self) -> tuple[str, ...]:
        """The splits that exist, train and val first; ("train", "val") when none is to be seen."""
        if self.val_fraction is not None:
            return ("train", "val")
        pattern = self.lists if self.lists is not None else self.images
        before, _, after = pattern.partition("{split}")
        # The text around {split} within its own path component, e.g. "list_{split}.txt".
        folder, _, prefix = before.rpartition("/")
        suffix, _, rest = after.partition("/")
        try:
            entries = list((self.base / folder).iterdir())
        except OSError:
            return ("train", "val")
        found = {
            entry.name[len(prefix) : len(entry.name) - len(suffix)]
            for entry in entries
            if entry.name.startswith(prefix)
            and entry.name.endswith(suffix)
            and len(entry.name) > len(prefix) + len(suffix)
            and not entry.name.startswith(".")
            and (entry.is_file() if self.lists is not None else (entry / rest.replace("{split}", "")).is_dir())
        }
        rank = {name: index for index, name in enumerate(_USUAL)}
        return tuple(sorted(found, key=lambda name: (rank.get(name, len(rank)), name))) or ("train", "val")

    def pairs(self, split: str) -> tuple[Pair, ...]:
        """The pairs of a split, by name or in the order of its list file. Raises DataError: no such split or
        folder, a mask or an image missing, one name twice, an empty split."""
        if self.val_fraction is not None and split not in ("train", "val"):
            raise DataError(f"no split '{split}': val_fraction makes train and val only")
        pairs = self._all(split)
        if self.lists is not None:
            pairs = self._listed(self._folder(self.lists, split), pairs)
        elif self.val_fraction is not None:
            wanted = split == "val"
            pairs = {name: pair for name, pair in pairs.items() if _in_val(name, self.val_fraction) == wanted}
            if not pairs:
                raise DataError(
                    f"val_fraction {self.val_fraction:g} leaves split '{split}' of {self.base} without images",
                    hint="choose another val_fraction, or put the splits in folders or list files",
                )
        return tuple(pairs.values())

    def _folder(self, pattern: str, split: str) -> Path:
        return self.base / pattern.replace("{split}", split)

    def _all(self, split: str) -> dict[str, Pair]:
        image_folder, mask_folder = self._folder(self.images, split), self._folder(self.masks, split)
        for what, folder in (("images", image_folder), ("masks", mask_folder)):
            if not folder.is_dir():
                known = self.splits()
                near = did_you_mean(split, known) if split not in known else None
                raise DataError(
                    f"no folder {folder} ({what} of split '{split}')",
                    hint=near or f"check `path` and `{what}` ({getattr(self, what)!r})",
                )
        masks = _by_key(mask_folder, self.mask_suffix)
        images = _by_key(image_folder, self.image_suffix)
        if image_folder == mask_folder:
            taken = set(masks.values())
            images = {key: file for key, file in images.items() if file not in taken}
        if not images:
            raise DataError(f"no images in {image_folder}", hint="check `path`, `images` and `image_suffix`")
        for key, file in images.items():
            if key not in masks:
                near = did_you_mean(key, masks.keys() - images.keys())
                expected = mask_folder / f"{key}{self.mask_suffix}.*"
                raise DataError(f"{file}: no mask {expected}", hint=near or "check `masks` and `mask_suffix`")
        for key, file in masks.items():
            if key not in images:
                expected = image_folder / f"{key}{self.image_suffix}.*"
                raise DataError(f"{file}: a mask without an image {expected}", hint="add the image or remove the mask")
        return {key: Pair(key, images[key], masks[key]) for key in sorted(images)}

    def _listed(self, file: Path, pairs: dict[str, Pair]) -> dict[str, Pair]:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{file}: cannot read the list of images ({error.strerror})") from None
        base_names: dict[str, list[str]] = {}
        for key in pairs:
            base_names.setdefault(key.rpartition("/")[2], []).append(key)
        chosen: dict[str, Pair] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name = self._key_of(line.strip(), pairs, base_names)
            if name is None:
                # A second word, as in "image.png mask.png", is not part of the name.
                name = self._key_of(line.split()[0], pairs, base_names)
            if name is None:
                entry = line.split()[0]
                raise DataError(
                    f"{file}:{number}: no image '{entry}' in {self.base}", hint=did_you_mean(_stem(entry), base_names)
                )
            if name in chosen:
                raise DataError(f"{file}:{number}: '{name}' is listed twice", hint="remove one of the lines")
            chosen[name] = pairs[name]
        if not chosen:
            raise DataError(f"{file}: lists no image")
        return chosen

    def _key_of(self, entry: str, pairs: dict[str, Pair], base_names: dict[str, list[str]]) -> str | None:
        """The key of a list entry: a path below the image folder, or a base name that is unique."""
        plain = entry.replace("\\", "/")
        head, _, _ = plain.rpartition("/")
        stems = [PureWindowsPath(plain).name, _stem(plain)]
        stems += [stem.removesuffix(self.image_suffix) for stem in stems]
        for stem in stems:
            key = f"{head}/{stem}" if head else stem
            if key in pairs:
                return key
        for stem in stems:
            if len(base_names.get(stem, ())) == 1:
                return base_names[stem][0]
        return None


def _stem(entry: str) -> str:
    name = PureWindowsPath(entry)
    return name.stem if name.suffix else name.name


def _by_key(folder: Path, suffix: str) -> dict[str, Path]:
    """Files whose stem ends in `suffix`, by relative path without it. Raises DataError on two files of one key."""
    found: dict[str, Path] = {}
    for file in list_images(folder):
        if not file.stem.endswith(suffix):
            continue
        key = (file.relative_to(folder).parent / file.stem.removesuffix(suffix)).as_posix()
        if key in found:
            raise DataError(f"{found[key]} and {file} differ only in their extension", hint="remove one of them")
        found[key] = file
    return found


def _in_val(name: str, fraction: float) -> bool:
    """Whether a name falls in the validation share: by hash, so adding images moves no other image."""
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def check_patterns(images: str, masks: str, lists: str | None, val_fraction: float | None) -> Sequence[str]:
    """What is wrong with how the splits are told apart: one message each, none when all is well."""
    wrong = []
    in_images, in_masks = "{split}" in images, "{split}" in masks
    ways = sum([in_images or in_masks, lists is not None, val_fraction is not None])
    if in_images != in_masks and lists is None:
        wrong.append("'{split}' must be in both `images` and `masks`, or in neither")
    elif ways == 0:
        wrong.append("nothing says which images are for training: put '{split}' into `images` and `masks`, or give "
                     "`lists` or `val_fraction`")  # fmt: skip
    elif ways > 1 and (lists is None or val_fraction is not None):
        wrong.append("`val_fraction` is for a single folder: use it without '{split}' and without `lists`")
    if lists is not None and "{split}" not in lists:
        wrong.append("`lists` needs '{split}' in it, e.g. 'splits/{split}.txt'")
    if val_fraction is not None and not 0 < val_fraction < 1:
        wrong.append(f"`val_fraction` must lie between 0 and 1, got {val_fraction:g}")
    return wrong
