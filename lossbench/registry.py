"""One generic registry for the three kinds of plugin: losses, backbones, datasets.

A plugin is a class (or a function returning an instance) marked by a decorator::

    @register_loss("focal")
    class FocalLoss(nn.Module):
        '''Softmax focal loss (Lin et al. 2017, eq. 4).'''
        def __init__(self, *, gamma: float = 2.0, alpha: float = 1.0, ignore_index: int = 255): ...

Discovery is by scanning, never by remembering an import. Files are *parsed*, not imported: names, summaries and
typed keyword-only parameters come from the syntax tree, so `lossbench list` and the validation of a suite need
no torch. Only when a signature is not static (an annotation or a default that is not a literal) is it imported.

Sources, in this order: the package folder of the kind; entry points (`lossbench.losses`, `lossbench.backbones`,
`lossbench.datasets`; each names a module); plugin files of the user's suite or `--plugin`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lossbench.errors import ConfigError, UnknownNameError, did_you_mean
from lossbench.plugin import Plugin as Plugin
from lossbench.plugin import scan_file as scan_file
from lossbench.signatures import KINDS as KINDS
from lossbench.signatures import Kind as Kind
from lossbench.terms import LossTerm as LossTerm

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: Package folder and entry-point group of each kind.
GROUPS: Mapping[Kind, str] = {
    "loss": "lossbench.losses",
    "backbone": "lossbench.backbones",
    "dataset": "lossbench.datasets",
}
T = TypeVar("T", bound=Callable[..., Any])


def _marker(kind: Kind) -> Callable[[str], Callable[[T], T]]:
    def register(name: str) -> Callable[[T], T]:
        def mark(obj: T) -> T:
            # An alias adds a second mark; a subclass must not inherit its parent's.
            marks = obj.__dict__.get("__lossbench__", ())
            obj.__lossbench__ = (*marks, (kind, name))  # type: ignore[attr-defined]
            return obj

        return mark

    register.__name__ = f"register_{kind}"
    register.__doc__ = f"Mark a class, or a function returning an instance, as the {kind} `name`."
    return register


register_loss = _marker("loss")
register_backbone = _marker("backbone")
register_dataset = _marker("dataset")


class Registry:
    """All plugins of one kind.

    Args:
        kind: "loss", "backbone" or "dataset".
        plugins: files of the user's own, scanned beside the package folder and the entry points.
        meant: one of them whose plugins take the place of those of the same name in an installed package: it may be the
            source of that package.
    """

    def __init__(self, kind: Kind, plugins: Sequence[Path] = (), *, meant: Path | None = None) -> None:
        self.kind: Kind = kind
        self.plugin_files = tuple(Path(p).resolve() for p in plugins)
        self._meant = meant and meant.resolve()

    @cached_property
    def _plugins(self) -> dict[str, Plugin]:
        found: dict[str, Plugin] = {}
        for file, module in self._sources():
            plugins = scan_file(file, module)
            if not plugins and module is None:
                raise ConfigError(
                    f"{file} registers no loss, backbone or dataset",
                    hint="decorate a class with @register_loss('name')",
                )
            for plugin in plugins:
                if plugin.kind != self.kind:
                    continue
                first = found.get(plugin.name)
                if first is not None and first.file.resolve() == plugin.file.resolve() and first.line == plugin.line:
                    continue  # the same file reached twice, e.g. as entry point and as --plugin
                if first is not None and not (plugin.file == self._meant and _installed(first)):
                    raise ConfigError(
                        f"{self.kind} '{plugin.name}' is registered twice: {first.where} and {plugin.where}",
                        hint="rename one of them",
                    )
                found[plugin.name] = replace(plugin, peer=self.get)
        return dict(sorted(found.items()))

    def _sources(self) -> Iterable[tuple[Path, str | None]]:
        group = GROUPS[self.kind]
        folder = Path(__file__).parent / group.rpartition(".")[2]
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                yield file, f"{group}.{file.stem}"
        for entry in _entry_points(group):
            yield _entry_point_file(entry), entry.module
        for file in self.plugin_files:
            if not file.is_file():
                raise ConfigError(f"plugin file not found: {file}")
            yield file, None

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a glob."""
        return [name for name in self._plugins if fnmatchcase(name, pattern)]

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self._plugins.values())

    def __contains__(self, name: str) -> bool:
        return name in self._plugins

    def get(self, name: str) -> Plugin:
        """The plugin called `name`. Raises UnknownNameError with the nearest known name."""
        try:
            return self._plugins[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.kind} '{name}'",
                hint=did_you_mean(name, self._plugins) or f"known: {', '.join(self._plugins)}",
            ) from None


def all_registries(plugins: Iterable[Path] = (), *, meant: Path | None = None) -> dict[Kind, Registry]:
    """A registry of each kind, with the plugins in these files, too; see `Registry`."""
    files = tuple(plugins)
    return {kind: Registry(kind, files, meant=meant) for kind in KINDS}


def _installed(plugin: Plugin) -> bool:
    """Whether an entry point of another package led to it."""
    return plugin.module is not None and not plugin.module.startswith("lossbench.")


def _entry_points(group: str) -> Iterable[EntryPoint]:
    return [entry for entry in _all_entry_points(tuple(sys.path)) if entry.group == group]


@lru_cache(maxsize=1)
def _all_entry_points(_path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Of all three kinds: finding them means opening the metadata of every installed distribution."""
    from importlib.metadata import entry_points  # takes as long to import as the rest of a small verb

    found = entry_points()
    return tuple(entry for group in GROUPS.values() for entry in found.select(group=group))


def _entry_point_file(entry: EntryPoint) -> Path:
    """The source file of an entry point's module. Finding it imports at most the packages that hold it."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except Exception as error:  # a missing or broken parent package
        reason = f" ({type(error).__name__}: {error})"
    else:
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin)
        reason = ""
    raise ConfigError(
        f"entry point '{entry.name}' of {entry.group} names no Python module: {entry.value}{reason}",
        hint=f"repair or uninstall {entry.dist.name}" if entry.dist is not None else None,
    )
