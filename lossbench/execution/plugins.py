"""The plugins of cells: where they are registered, what their code is, which modules to import ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from lossbench.cells import Cell
from lossbench.provenance import code_hash
from lossbench.registry import Kind, Plugin, Registry, all_registries


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


def code_hashes(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> dict[tuple[Kind, str], str]:
    """`provenance.code_hash` of every plugin the cells use, by kind and name."""
    return {key: code_hash(plugin) for key, plugin in _used(cells, registries).items()}


def plugin_modules(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> list[str]:
    """Modules of the plugins the cells use, for the fork server. Not the users' files: those may fail to import,
    which is for the cell to report."""
    modules = {plugin.module for plugin in _used(cells, registries).values()}
    return sorted(module for module in modules if module is not None and module.startswith("lossbench."))


def _used(cells: Sequence[Cell], registries: Mapping[Kind, Registry]) -> dict[tuple[Kind, str], Plugin]:
    """The plugins of cells, each once."""
    names = {(kind, component.name) for cell in cells for kind, component in cell.components.items()}
    return {(kind, name): registries[kind].get(name) for kind, name in names}
