"""The predictions that runs have kept, with image and truth of each, as the panels show them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench import metrics
from lossbench.data.roots import data_root as find_data_root
from lossbench.data.roots import dataset_root
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import ConfigError, DataError, RecordError, UnknownNameError, did_you_mean
from lossbench.execution.predictions import INDEX, prediction_file
from lossbench.execution.spec import Spec
from lossbench.figures.choice import in_order, label
from lossbench.registry import all_registries
from lossbench.sidecar import per_image_counts
from lossbench.standings import Block
from lossbench.store import Store

_HINT = (
    "predictions lie in the results folder's runs/ (git-ignored, and removed by `lossbench clean`): run the suite "
    "into a fresh folder, `lossbench run SUITE --results FOLDER`, and draw from there"
)


@dataclass(frozen=True)
class KeptRun:
    """One run and the images whose predictions it has kept.

    Attributes:
        row: in the block's table.
    """

    label: str
    seed: int
    row: int
    folder: Path
    split: str
    fingerprint: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """One image with its truth and every loss's prediction; mIoU of the image in percent by loss."""

    name: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    predictions: Mapping[str, NDArray[np.uint8]]
    miou: Mapping[str, float]


def kept_runs(block: Block, store: Store, *, seed: int | None = None, reference: str = "ce") -> list[KeptRun]:
    """One run per loss of the block, all of one seed, in the order of all figures; losses without kept predictions of
    that seed are left out.

    Args:
        seed: default: the one that most losses have kept predictions of, the smallest of equals.

    Raises ConfigError when no run has kept any, or none of that seed.
    """
    found = []
    for row in in_order(block, reference):
        for place, number, run_id in zip(row.runs.rows.tolist(), row.runs.seeds, row.runs.ids, strict=True):
            folder = store.run_dir(run_id) / "predictions"
            facts = _index(folder)
            if facts is not None:
                found.append(KeptRun(label(row), number, place, folder, **facts))
    if not found:
        raise ConfigError(f"no run of {block.title} has kept predictions in {store.root / 'runs'}", hint=_HINT)
    seeds = Counter(run.seed for run in found)
    if seed is None:
        seed = min(seeds, key=lambda number: (-seeds[number], number))
    elif seed not in seeds:
        known = ", ".join(map(str, sorted(seeds)))
        raise ConfigError(f"no run of seed {seed} has kept predictions", hint=f"there are those of seed {known}")
    return [run for run in found if run.seed == seed]


def _index(folder: Path) -> dict[str, Any] | None:
    """What a run says of its predictions; None where it has kept none."""
    try:
        facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        return {
            "split": str(facts["split"]),
            "fingerprint": str(facts["fingerprint"]),
            "shown": tuple(map(str, facts["shown"])),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_dataset(
    block: Block, run: KeptRun, plugins: Sequence[Path] = (), data_root: Path | None = None
) -> SegmentationDataset:
    """The dataset that a run was scored on, with its parameters.

    Args:
        plugins: files of `--plugin`. Those that a run folder names are not run unasked.
        data_root: of `--data-root`.

    Raises ConfigError when no such dataset is known here, DataError when its data is not here.
    """
    identity = block.parts[0].condition.cell["dataset"]
    name, params = identity["name"], identity["params"]
    # A record knows what is in a file that is a parameter; the specification of the run, where it lies.
    with suppress(OSError, ValueError, KeyError, TypeError):  # there is none, or one of a lossbench of another age
        told = Spec.read(run.folder.parent / "spec.json").parse_cell().dataset
        if told.identity == identity:
            params = told.params
    registry = all_registries(plugins)["dataset"]
    if name not in registry:
        hint = "name the file that registers it with --plugin" if not plugins else None
        raise UnknownNameError(f"no dataset '{name}' is known here", hint=hint)
    dataset: SegmentationDataset = registry.get(name).build(params, root=dataset_root(find_data_root(data_root), name))
    return dataset


def read_images(
    block: Block, runs: Sequence[KeptRun], dataset: SegmentationDataset, wanted: Sequence[str] = ()
) -> list[Shown]:
    """The images that all runs show, in the split's order; or those `wanted`, in the order given.

    Raises ConfigError for an image that a run has no prediction of, DataError when the data is missing or is not what
    the runs were scored on, RecordError when a prediction is not the record's.
    """
    split = runs[0].split
    fingerprint = dataset.fingerprint(split)
    if any(run.fingerprint != fingerprint for run in runs):
        raise DataError(
            f"{block.dataset}: the images of split '{split}' are not those that the runs were scored on",
            hint="name the folder they were scored on with --data-root, or run the suite again",
        )
    names = list(dataset.names(split))
    chosen = list(wanted) or [name for name in names if all(name in run.shown for run in runs)]
    if not chosen:
        raise ConfigError("the runs have kept predictions of different images", hint="name some with --image")
    for name in chosen:
        _require(name, names, runs, split)
    return [_read(block, runs, dataset, split, names.index(name), name) for name in chosen]


def _require(name: str, names: Sequence[str], runs: Sequence[KeptRun], split: str) -> None:
    if name not in names:
        hint = did_you_mean(name, names) or f"an image looks like '{names[0]}'"
        raise ConfigError(f"split '{split}' has no image '{name}'", hint=hint)
    without = [run.label for run in runs if not _file(run, name).is_file()]
    if without:
        raise ConfigError(
            f"no prediction of image '{name}' was kept by {', '.join(without)}",
            hint=f"kept are {', '.join(runs[0].shown)}; `lossbench run --keep predictions` keeps all",
        )


def _file(run: KeptRun, name: str) -> Path:
    return prediction_file(run.folder, name)


def _read(
    block: Block, runs: Sequence[KeptRun], dataset: SegmentationDataset, split: str, index: int, name: str
) -> Shown:
    image, truth = dataset.load(split, index)
    predictions, mious = {}, {}
    for run in runs:
        prediction = _read_png(_file(run, name))
        matrix = metrics.confusion_matrix(truth, prediction, dataset.num_classes, dataset.ignore_index)
        counts = per_image_counts(block.rows[0].runs.table, run.row)
        if counts is not None and not np.array_equal(counts[index], metrics.counts_of(matrix)):
            raise RecordError(
                f"{_file(run, name)}: not what the record of {run.label}, seed {run.seed}, was scored on",
                hint="the folder holds predictions of another run: " + _HINT,
            )
        predictions[run.label], mious[run.label] = prediction, 100 * metrics.mean_iou(matrix)
    return Shown(name, image, truth, predictions, mious)


def _read_png(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except OSError as error:
        raise RecordError(f"{path}: unreadable prediction ({error})", hint=_HINT) from None
