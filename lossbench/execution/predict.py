"""Predictions of a trained cell: rebuild what it was made of, load its weights, go through a split. Prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lossbench.backbones.base import Backbone
from lossbench.cells import Cell
from lossbench.data.batches import normalise
from lossbench.data.build import Progress
from lossbench.data.cache import open_split
from lossbench.data.roots import dataset_root
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import DataError, did_you_mean
from lossbench.execution.hardware import require_device
from lossbench.execution.labelmaps import FORMATS, LabelMapWriter
from lossbench.execution.weights import Weights
from lossbench.plugin import Plugin
from lossbench.registry import Kind, Registry
from lossbench.training.evaluate import evaluate, predict


@dataclass(frozen=True)
class Predicted:
    """What was written. `confusion`: (C, C) int64, rows = truth; None for a split without labels."""

    folder: Path
    images: int
    confusion: NDArray[np.int64] | None


def predict_split(
    weights: Weights,
    registries: Mapping[Kind, Registry],
    *,
    split: str,
    form: str,
    out: Path,
    data_root: Path,
    cache_root: Path,
    device: str,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    decoding: Progress | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Predicted:
    """Write the predictions of `weights` for every image of `split` at native size, as scoring makes them.

    Args:
        form: one of FORMATS.
        out: folder for the files; must be missing or empty.
        on_image: told (images done, images in all).
        decoding, say: as `open_split` tells them.

    Raises:
        ConfigError: the form does not suit the dataset, or `out` is not empty.
        DataError: the data is missing or not what the weights were trained on.
        SetupError: no such device, or `out` cannot be written.
    """
    place = require_device(device)
    cell = weights.cell
    root = dataset_root(data_root, cell.dataset.name)
    dataset: SegmentationDataset = registries["dataset"].get(cell.dataset.name).build(cell.dataset.params, root=root)
    if weights.class_names and tuple(dataset.class_names) != weights.class_names:
        raise DataError(f"{cell.dataset.label}: its classes are not those that the weights were trained on")
    encode = FORMATS[form](dataset)
    model = _model(weights, registries["backbone"].get(cell.backbone.name), dataset.num_classes).to(place)
    unlabelled = split in getattr(dataset, "unlabelled_splits", ())
    names = dataset.unlabelled_names(split) if unlabelled else _names(dataset, split)  # type: ignore[attr-defined]
    cached = (
        None if unlabelled else open_split(dataset, split, cache_root=cache_root, progress=decoding, say=say)
    )  # before the folder is made
    writer = LabelMapWriter(out, names, encode)
    confusion = None
    try:
        if cached is None:
            _unscored(model, cell, dataset, split, place, writer, on_image)
        else:
            result = evaluate(
                model,
                cached,
                dataset.num_classes,
                place,
                channels_last=cell.protocol.channels_last,
                on_batch=on_image,
                on_prediction=writer,
            )
            confusion = result.confusion if result is not None else None
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return Predicted(out, len(names), confusion)


def _names(dataset: SegmentationDataset, split: str) -> Any:
    try:
        return dataset.names(split)
    except DataError as error:
        near = did_you_mean(split, dataset.splits) if split not in dataset.splits else None
        raise DataError(error.message, hint=near or error.hint) from None


def _model(weights: Weights, plugin: Plugin, classes: int) -> Backbone:
    """The network with its weights, in evaluation mode. Raises DataError when they do not fit."""
    params = dict(weights.cell.backbone.params)
    if _takes_none(plugin):
        params["weights"] = "none"  # they are replaced at once: nothing is to be fetched or looked for
    model: Backbone = plugin.build(params, num_classes=classes)
    try:
        model.load_state_dict(weights.state)
    except RuntimeError as error:
        words = str(error).strip().splitlines()
        raise DataError(
            f"the weights do not fit backbone '{plugin.name}': {words[-1].strip()}",
            hint="its code has changed since, or --plugin gives another file",
        ) from None
    if weights.cell.protocol.channels_last:
        model.to(memory_format=torch.channels_last)
    return model.eval()


def _takes_none(plugin: Plugin) -> bool:
    """Whether the backbone can be built without pre-trained weights (`weights: none`, as all of lossbench's)."""
    try:
        return "weights" in plugin.params and plugin.params["weights"].coerce("none") == "none"
    except ValueError:
        return False


@torch.no_grad()
def _unscored(
    model: Backbone,
    cell: Cell,
    dataset: Any,
    split: str,
    device: torch.device,
    writer: LabelMapWriter,
    on_image: Callable[[int, int], None],
) -> None:
    """Images without labels, one at a time: they are not worth a cache."""
    total = len(dataset.unlabelled_names(split))
    for index in range(total):
        image = torch.from_numpy(np.array(dataset.unlabelled_image(split, index))).permute(2, 0, 1)[None]
        inputs = normalise(image.to(device))
        if cell.protocol.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        writer(index, predict(model(inputs))[0].to(torch.uint8).cpu().numpy())
        on_image(index + 1, total)
