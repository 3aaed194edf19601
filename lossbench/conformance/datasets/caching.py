"""Rules about what lossbench's cache of decoded images relies on: files, fingerprints, counts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.conformance.datasets.subject import DatasetSubject, alike
from lossbench.conformance.datasets.watch import believed_changed, opened_files
from lossbench.conformance.report import Check, Rule
from lossbench.datasets.base import SegmentationDataset


def files(subject: DatasetSubject) -> Iterator[Check]:
    """`files` exist, and are all that `load` opens below their folder (else a cache would not notice a change)."""
    for split in subject.splits:
        listed = list(subject.dataset.files(split))
        gone = [file for file in listed if not file.is_file()]
        subject.fed = f"files({split!r})"
        got = f"{len(listed)} files, {len(gone)} of them missing"
        yield Check(subject.fed, got, "all are there", not gone)
        folder = subject.root or _common(listed)
        if folder is None:
            continue
        known = {file.resolve() for file in listed}
        fresh = subject.build()
        fresh.names(split)
        with opened_files() as opened:
            for index in subject.sample(split):
                fresh.load(split, index)
        base = folder.resolve()
        stray = sorted(
            file.name for file in {f.resolve() for f in opened} - known if file.is_relative_to(base) and file.is_file()
        )
        subject.fed = f"{subject.sampled(split)}: files opened below {folder.name}"
        yield Check(subject.fed, f"not in files(): {', '.join(stray[:3]) or 'none'}", "all in files()", not stray)


def fingerprint(subject: DatasetSubject) -> Iterator[Check]:
    """The fingerprint of a split is stable, its own, and another one as soon as one of its files changes."""
    dataset, fresh = subject.dataset, subject.build()
    seen: dict[str, str] = {}
    for split in subject.splits:
        subject.fed = f"fingerprint({split!r})"
        value = dataset.fingerprint(split)
        text = isinstance(value, str) and 8 <= len(value) <= 64 and value.isalnum()
        yield Check(subject.fed, repr(value), "letters and digits, 12 or so", text)
        stable = value == dataset.fingerprint(split) == fresh.fingerprint(split)
        got = "the same" if stable else "another"
        yield Check(f"{subject.fed} again, and of another instance", got, "the same", stable)
        twin = next((other for other, theirs in seen.items() if theirs == value), None)
        yield Check(subject.fed, f"the same as of {twin}" if twin else "its own", "its own", twin is None)
        seen[split] = value
        for file in _ends(dataset.files(split)):
            subject.fed = f"fingerprint({split!r}), {file.name} a byte longer and a second younger"
            with believed_changed(file):
                moved = subject.build().fingerprint(split) != value
            yield Check(subject.fed, "another" if moved else "the same", "another", moved)


def counts(subject: DatasetSubject) -> Iterator[Check]:
    """Through lossbench's cache: as many pixels of each class as a plain loop counts, and the same bits."""
    from lossbench.data.cache import open_split

    dataset = subject.dataset
    for split, loaded in subject.pairs.items():
        subject.fed = f"{subject.sampled(split)}, through the cache"
        with tempfile.TemporaryDirectory() as folder:
            cached = open_split(_Sample(dataset, split, list(loaded)), split, cache_root=Path(folder))
            expected = sum(np.bincount(target.ravel(), minlength=256) for _, target in loaded.values())
            plain = np.asarray(expected)[: dataset.num_classes]
            fits = bool((cached.class_counts == plain).all())
            yield Check(subject.fed, f"pixels {cached.class_counts.tolist()}", f"pixels {plain.tolist()}", fits)
            for place, (index, pair) in enumerate(loaded.items()):
                same = alike((cached.image(place), cached.target(place)), pair)
                yield Check(subject.fed, f"image {index}: {'same' if same else 'other'} bits", "same bits", same)
            del cached  # unmapped, before its folder goes


CACHING_RULES: tuple[Rule, ...] = (files, fingerprint, counts)


class _Sample(SegmentationDataset):
    """Some images of one split, as a dataset."""

    def __init__(self, whole: SegmentationDataset, split: str, chosen: Sequence[int]) -> None:
        self.title = "sample"
        self.splits = (split,)
        self.class_names, self.colors, self.ignore_index = whole.class_names, whole.colors, whole.ignore_index
        self._whole, self._chosen = whole, chosen

    def names(self, split: str) -> Sequence[str]:
        return [str(index) for index in self._chosen]

    def files(self, split: str) -> Sequence[Path]:
        return self._whole.files(split)

    def load(self, split: str, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._whole.load(split, self._chosen[index])


def _ends(files: Sequence[Path]) -> list[Path]:
    """The first, one in the middle and the last."""
    return [files[i] for i in sorted({0, len(files) // 2, len(files) - 1})] if files else []


def _common(listed: Sequence[Path]) -> Path | None:
    """The deepest folder that holds all of them."""
    if not listed:
        return None
    folders = [set(file.parents) for file in listed]
    return max(set.intersection(*folders), key=lambda folder: len(folder.parts), default=None)
