"""The plugins of cells: where they are registered, what their code is, which modules to import ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lossbench.cells import Cell
from lossbench.provenance import code_hash
from lossbench.registry import Kind, Registry, all_registries
from lossbench.terms import parts


def registries_of(plugins: Sequence[Path]) -> dict[Kind, Registry]:
    """A registry of each kind that knows the user's plugin files, too."""
    return all_registries(plugins) if plugins else packaged_registries()


@cache
def packaged_registries() -> dict[Kind, Registry]:
    """The registries without a user's own files, scanned: once a process, or once for all that are forked from it."""
    registries = all_registries()
    for registry in registries.values():
        registry.names()
    return registries


def code_hashes(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> list[dict[Kind, str]]:
    """`provenance.code_hash` of each cell's plugins."""
    known: dict[tuple[Kind, tuple[str, ...]], str] = {}
    hashes = []
    for cell in cells:
        code: dict[Kind, str] = {}
        for kind, component in cell.components.items():
            plugin = registries[kind].get(component.name)
            key = kind, tuple(part.name for part in parts(plugin, component.params))
            if key not in known:
                known[key] = code_hash(plugin, component.params)
            code[kind] = known[key]
        hashes.append(code)
    return hashes


def plugin_modules(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> list[str]:
    """Modules of the plugins the cells use, for the fork server. Not the users' files: those may fail to import,
    which is for the cell to report."""
    modules = {
        part.module
        for cell in cells
        for kind, component in cell.components.items()
        for part in parts(registries[kind].get(component.name), component.params)
    }
    return sorted(module for module in modules if module is not None and module.startswith("lossbench."))
