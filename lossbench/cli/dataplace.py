"""Where a dataset is expected, and whether it is there: in its own folder, or in others' that it is read from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossbench.data.roots import dataset_root
from lossbench.errors import LossbenchError
from lossbench.plugin import Plugin


def place(plugin: Plugin, root: Path) -> dict[str, Any]:
    """Of a dataset under a data root, as JSON: `name`; `folder` where it belongs, None for nowhere; whether it is
    `there`; `read_from`, the folders of other datasets that it is read from when its own is not there."""
    folder = dataset_root(root, plugin.name) if "root" in plugin.facts else None
    there = folder is None or folder.is_dir()
    others = [] if there or folder is None else _others(plugin, folder)
    return {
        "name": plugin.name,
        "folder": str(folder) if folder else None,
        "there": there or bool(others),
        "read_from": [str(other) for other in others],
    }


def state(place: dict[str, Any]) -> str:
    """`there`, `missing`, or that it needs no folder."""
    return "needs no folder" if place["folder"] is None else "there" if place["there"] else "missing"


def read_from(place: dict[str, Any]) -> str:
    """`read from pascal_context, voc2010`; empty when it has a folder of its own or none."""
    names = ", ".join(Path(folder).name for folder in place["read_from"])
    return f"read from {names}" if names else ""


def beside(plugin: Plugin, root: Path) -> list[Path]:
    """The folders of other datasets that it may be read from and that are there."""
    names = getattr(plugin.load(), "beside", ())
    return [folder for name in names if name != plugin.name and (folder := dataset_root(root, name)).is_dir()]


def is_readable(plugin: Plugin, folder: Path) -> bool:
    """Whether it finds images for each of its splits; `folder`: its own."""
    try:
        dataset = plugin.build({}, root=folder)
        return all(len(dataset.names(split)) > 0 for split in dataset.splits)
    except LossbenchError:  # its data's, a parameter's without which it cannot be built
        return False


def _others(plugin: Plugin, folder: Path) -> list[Path]:
    try:
        found = beside(plugin, folder.parent)
    except LossbenchError:  # a plugin that cannot be imported: told when it is used
        return []
    return found if found and is_readable(plugin, folder) else []
