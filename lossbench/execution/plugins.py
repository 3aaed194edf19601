"""The plugins of cells: where they are registered, what their code is, which modules to import ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lossbench.cells import Cell
from lossbench.provenance import code_hash
from lossbench.registry import KINDS, Kind, Registry


def registries_of(plugins: Sequence[Path]) -> dict[Kind, Registry]:
    """A registry of each kind that knows the user's plugin files, too."""
    return {kind: Registry(kind, plugins) for kind in KINDS} if plugins else packaged_registries()


@cache
def packaged_registries() -> dict[Kind, Registry]:
    """The registries without a user's own files, scanned: once a process, or once for all that are forked from it."""
    registries = {kind: Registry(kind) for kind in KINDS}
    for registry in registries.values():
        registry.names()
    return registries


def code_hashes(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> dict[tuple[Kind, str], str]:
    """`provenance.code_hash` of every plugin the cells use, by kind and name."""
    names = {(kind, component.name) for cell in cells for kind, component in cell.components.items()}
    return {(kind, name): code_hash(registries[kind].get(name)) for kind, name in names}


def plugin_modules(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> list[str]:
    """Modules of the plugins the cells use, for the fork server. Not the users' files: those may fail to import,
    which is for the cell to report."""
    modules = set()
    for cell in cells:
        for kind, component in cell.components.items():
            plugin = registries[kind].get(component.name)
            if plugin.module is not None and plugin.module.startswith("lossbench."):
                modules.add(plugin.module)
    return sorted(modules)
