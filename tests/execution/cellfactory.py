"""Small real cells: `streets` and a tiny FCN, seconds to train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossbench.cells import Cell, Component
from lossbench.execution.spec import Spec
from lossbench.protocol import Protocol
from lossbench.registry import Registry

STREETS = {"height": 48, "width": 64, "train_images": 12, "val_images": 6}
PROTOCOL = {"iterations": 8, "batch_size": 4, "crop": [32, 48], "optimizer": "adamw", "lr": 0.002, "min_lr": 0.0}


def make_cell(loss: str = "ce", seed: int = 0, plugins: tuple[Path, ...] = (), **changes: Any) -> Cell:
    """A cell with `loss`; other keyword arguments are loss parameters, or protocol fields in `protocol={...}`."""
    protocol = Protocol(**{**PROTOCOL, **changes.pop("protocol", {})})
    backbone = changes.pop("backbone", {})

    def component(kind: Any, name: str, given: dict[str, Any]) -> Component:
        return Component(name, Registry(kind, plugins).get(name).resolve(given), tuple(given))

    return Cell(
        component("dataset", "streets", STREETS),
        component("backbone", "fcn_timm", {"weights": "none", **backbone}),
        component("loss", loss, changes),
        seed,
        protocol,
    )


def make_spec(cell: Cell, root: Path, cache: Path, **fields: Any) -> Spec:
    spec = Spec(cell.to_json(), cell.id, results=root, data_root=root / "data", cache_root=cache, **fields)
    spec.write()
    return spec
