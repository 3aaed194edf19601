"""Qualitative panels: image, truth and what every loss predicted, where runs have kept it and images may be shown."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import LossbenchError
from lossbench.site.model import Board
from lossbench.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Datasets whose images may stand on a public page: those that lossbench itself generates. A licence note is no
#: permission that a program could read, so that everything else is left out, and the page says so.
SHOWABLE = frozenset({"streets"})
#: Pixels; images of a page.
_WIDTH, _IMAGES = 360, 3


@dataclass(frozen=True)
class Picture:
    """A picture of a panel, its path below the root, and what it shows in words."""

    path: str
    title: str
    alt: str
    note: str


@dataclass(frozen=True)
class Panels:
    """Rows of pictures, or why there are none."""

    rows: list[tuple[str, list[Picture]]]
    seed: int | None = None
    split: str = ""
    legend: list[tuple[str, str]] | None = None
    reason: str = ""


def panels(
    board: Board, store: Store, plugins: Sequence[Path], data_root: Path | None
) -> tuple[Panels, dict[str, bytes]]:
    """The panels of a block and the files of their pictures by path."""
    if board.block.dataset_name not in SHOWABLE:
        return Panels([], reason="Images are shown only of datasets that lossbench generates."), {}
    try:
        return _panels(board, store, plugins, data_root)
    except LossbenchError as error:
        return Panels([], reason=f"No pictures: {error.message}."), {}


def _panels(
    board: Board, store: Store, plugins: Sequence[Path], data_root: Path | None
) -> tuple[Panels, dict[str, bytes]]:
    from lossbench.figures import kept
    from lossbench.figures.choice import unmarked
    from lossbench.figures.overlay import prediction_picture, resized, truth_picture

    reference = board.block.reference
    try:
        runs = kept.kept_runs(board.block, store, reference=reference)
    except LossbenchError:  # its message names a path of this machine
        reason = "No run of this block has kept predictions: `lossbench run --keep predictions` keeps them."
        return Panels([], reason=reason), {}
    dataset = kept.open_dataset(board.block, runs[0], plugins, data_root)
    shown = kept.read_images(board.block, runs, dataset)[:_IMAGES]
    files: dict[str, bytes] = {}
    rows = []
    for place, each in enumerate(shown):
        truth = resized(each.truth, _WIDTH)
        made: list[tuple[str, NDArray[Any], str]] = [
            ("image", resized(each.image, _WIDTH), ""),
            ("ground truth", truth_picture(truth, dataset.colors, dataset.ignore_index), ""),
        ]
        for label, prediction in each.predictions.items():
            small = resized(prediction, _WIDTH)
            picture = prediction_picture(small, truth, dataset.colors, dataset.ignore_index)
            made.append((unmarked(label), picture, f"mIoU {each.miou[label]:.1f} %"))
        pictures = []
        for column, (title, pixels, note) in enumerate(made):
            path = f"images/{board.slug}/{place}-{column}.png"
            files[path] = _png(pixels)
            what = f"Prediction of {title} for image {each.name}: {note}" if note else f"{title} of {each.name}"
            pictures.append(Picture(path, title, what, note))
        rows.append((each.name, pictures))
    legend = [(name, "#" + bytes(color).hex()) for name, color in zip(dataset.class_names, dataset.colors, strict=True)]
    return Panels(rows, runs[0].seed, runs[0].split, legend), files


def _png(pixels: NDArray[Any]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.astype("uint8")).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
