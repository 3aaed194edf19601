"""Rules about what a dataset gives: contract, names, pairs, and the same ones whoever asks."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from lossbench.conformance.datasets.subject import DatasetSubject, alike
from lossbench.conformance.report import Check, Rule, Skip
from lossbench.errors import DataError

_THREADS = 8


def contract(subject: DatasetSubject) -> Iterator[Check]:
    """A docstring, a static signature, licence, how to get it, 2 classes or more, a colour each, and what is void."""
    plugin, dataset = subject.plugin, subject.dataset
    yield Check("the file", repr(plugin.summary), "a docstring that says what it is", bool(plugin.summary))
    static = plugin.static_signature is not None
    yield Check("the file", f"signature {'' if static else 'not '}static", "literal defaults and plain types", static)
    for field in ("licence", "how_to_get"):
        value = getattr(dataset, field)
        yield Check("the class", f"{field} = {value!r}", "a line of text", isinstance(value, str) and bool(value))
    names = list(dataset.class_names)
    distinct = len(set(names)) == len(names) >= 2
    yield Check("class_names", f"{len(names)} names, {len(set(names))} distinct", "2 or more, all distinct", distinct)
    colors = [tuple(color) for color in dataset.colors]
    fits = len(colors) == len(names) and all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in colors)
    yield Check("colors", f"{len(colors)}: {colors[:3]} ...", f"{len(names)} RGB triples of 0..255", fits)
    yield Check("colors", f"{len(set(colors))} distinct", f"{len(names)} distinct", len(set(colors)) == len(names))
    void = dataset.ignore_index
    yield Check("ignore_index", str(void), f"{len(names)}..255: no class", len(names) <= void <= 255)


def names(subject: DatasetSubject) -> Iterator[Check]:
    """Names are text, one for each image, no two alike, in the same order every time; train and val are there."""
    for split in ("train", "val"):
        there = split in subject.splits
        yield Check("splits", ", ".join(subject.splits), f"{split} among them", there)
    fresh = subject.build()
    for split, found in subject.splits.items():
        subject.fed = f"names({split!r})"
        text = all(isinstance(name, str) and name for name in found)
        distinct = text and len(set(found)) == len(found) > 0
        yield Check(subject.fed, f"{len(found)} names, {len(set(found))} distinct", "text, distinct, some", distinct)
        again = list(subject.dataset.names(split)) == found == list(fresh.names(split))
        got = f"{'the same' if again else 'other'} names"
        yield Check(f"{subject.fed} again, and of another instance", got, "the same names", again)


def errors(subject: DatasetSubject) -> Iterator[Check]:
    """A split that does not exist is a DataError."""
    for method in ("names", "files", "fingerprint"):
        subject.fed = f"{method}('nowhere')"
        try:
            value = getattr(subject.dataset, method)("nowhere")
        except DataError:
            yield Check(subject.fed, "DataError", "DataError", True)
        except Exception as error:  # whatever else it raises is the finding
            yield Check(subject.fed, type(error).__name__, "DataError", False)
        else:
            yield Check(subject.fed, repr(value)[:60], "DataError", False)


def pairs(subject: DatasetSubject) -> Iterator[Check]:
    """Images (H, W, 3) uint8, targets (H, W) uint8 of the same size, every id a class or void, some pixel labelled."""
    dataset = subject.dataset
    for split, loaded in subject.pairs.items():
        fed = subject.sampled(split)
        labelled = False
        for index, (image, target) in loaded.items():
            shapes = image.dtype == target.dtype == np.uint8 and image.shape == (*target.shape, 3)
            got = f"image {index}: {image.dtype} {image.shape} and {target.dtype} {target.shape}"
            yield Check(fed, got, "uint8 (H, W, 3) and uint8 (H, W)", shapes)
            foreign = np.unique(target[(target >= dataset.num_classes) & (target != dataset.ignore_index)]).tolist()
            got = f"image {index}: foreign ids {foreign[:5] or 'none'}"
            yield Check(fed, got, f"0..{dataset.num_classes - 1} or {dataset.ignore_index}", not foreign)
            labelled |= bool((target != dataset.ignore_index).any())
        yield Check(fed, "some pixels labelled" if labelled else "only void", "some pixels labelled", labelled)


def determinism(subject: DatasetSubject) -> Iterator[Check]:
    """`load` gives the same bits again, and from another instance, whatever the global seeds, which it leaves alone."""
    fresh = subject.build()
    for split, loaded in subject.pairs.items():
        subject.fed = f"{subject.sampled(split)}, loaded again and by another instance, other global seeds"
        python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        try:
            random.seed(99)
            np.random.seed(99)  # noqa: NPY002
            before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
            for dataset in (subject.dataset, fresh):
                for index, pair in loaded.items():
                    same = alike(dataset.load(split, index), pair)
                    yield Check(subject.fed, f"image {index}: {'same' if same else 'other'} bits", "same bits", same)
            after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
        kept = before == after
        yield Check(subject.fed, f"global seeds {'un' * kept}changed", "unchanged", kept)


def threads(subject: DatasetSubject) -> Iterator[Check]:
    """Several threads that load at once get what one gets."""
    for split, loaded in subject.pairs.items():
        subject.fed = f"{subject.sampled(split)}, each three times, by {_THREADS} threads of a fresh instance"
        fresh = subject.build()
        order = [*loaded] * 3
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(lambda index, d=fresh, s=split: d.load(s, index), order))
        differ = sorted({index for index, pair in zip(order, found, strict=True) if not alike(pair, loaded[index])})
        got = f"other bits at images {differ}" if differ else "the same bits"
        yield Check(subject.fed, got, "the same bits", not differ)


def pickling(subject: DatasetSubject) -> Iterator[Check]:
    """A pickled copy (a process of its own gets one) names and loads the same."""
    subject.fed = "pickle.loads(pickle.dumps(dataset))"
    copy = pickle.loads(pickle.dumps(subject.dataset))
    for split, loaded in subject.pairs.items():
        same = copy.fingerprint(split) == subject.dataset.fingerprint(split)
        got = f"{split}: {'the same' if same else 'another'} fingerprint"
        yield Check(subject.fed, got, "the same", same)
        for index, pair in list(loaded.items())[:2]:
            same = alike(copy.load(split, index), pair)
            got = f"{split}, image {index}: {'same' if same else 'other'} bits"
            yield Check(subject.fed, got, "same bits", same)


def disjoint(subject: DatasetSubject) -> Iterator[Check]:
    """No image is in two splits (those of the sample, first of all the ones with the same name)."""
    if len(subject.splits) < 2:
        raise Skip("has one split only")
    owner: dict[bytes, str] = {}
    for split, loaded in subject.pairs.items():
        for index, (image, _) in loaded.items():
            place = f"{split} {subject.splits[split][index]}"
            first = owner.setdefault(image.tobytes(), place)
            alone = first.split(" ")[0] == split
            got = f"{place} is also {first}" if not alone else "images of its own"
            yield Check(subject.sampled(split), got, "images of its own", alone)


CONTENT_RULES: tuple[Rule, ...] = (contract, names, errors, pairs, disjoint, determinism, threads, pickling)
