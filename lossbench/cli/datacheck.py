"""What `lossbench data check` reports of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lossbench.cli.common import stderr, stdout
from lossbench.datasets.base import WARNING, SegmentationDataset
from lossbench.errors import DataError

_SHOWN = 20


def report(label: str, dataset: SegmentationDataset, root: Path | None, needed: Sequence[str] = ()) -> dict[str, Any]:
    """Images by split, notes, problems and warnings; a split of `needed` that is not there is a problem."""
    stderr().print(f"checking {label} ...", style="dim")
    said = dataset.check()
    for split in needed:
        if split not in dataset.splits:
            said.append(_missing(dataset, split))
    return {
        "name": label,
        "folder": str(root) if root else None,
        "images": _images(dataset),
        "notes": _notes(dataset),
        "problems": [line for line in said if WARNING not in line],
        "warnings": [line.replace(WARNING, "") for line in said if WARNING in line],
    }


def _missing(dataset: SegmentationDataset, split: str) -> str:
    try:
        dataset.names(split)
    except DataError as error:
        return f"{split}: {error.message}"
    return f"{split}: not among the splits of the dataset ({', '.join(dataset.splits)})"


def _images(dataset: SegmentationDataset) -> dict[str, int]:
    images = {}
    for split in dataset.splits:
        try:
            images[split] = len(dataset.names(split))
        except DataError:  # `check` reports it
            images[split] = 0
    return images


def _notes(dataset: SegmentationDataset) -> list[str]:
    """What a record would say of the data, e.g. which of several lists was read."""
    try:
        return list(getattr(dataset, "notes", ()))
    except DataError:  # `check` reports it
        return []


def print_report(report: Mapping[str, Any]) -> None:
    out = stdout()
    images = ", ".join(f"{split} {count}" for split, count in report["images"].items())
    out.print(f"{report['name']}: images: {images}", soft_wrap=True)
    for line in report["notes"]:
        out.print(f"  {line}", soft_wrap=True)
    for line in report["warnings"]:
        out.print(f"  warning: {line}", soft_wrap=True)
    problems = report["problems"]
    for line in problems[:_SHOWN]:
        out.print(f"  problem: {line}", soft_wrap=True)
    if len(problems) > _SHOWN:
        out.print(f"  and {len(problems) - _SHOWN} more problems (--json shows all)")
    if not problems:
        out.print("  no problems")
