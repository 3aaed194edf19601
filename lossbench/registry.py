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

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from lossbench.errors import ConfigError, ParameterError, UnknownNameError, did_you_mean
from lossbench.signatures import KINDS as KINDS
from lossbench.signatures import Kind as Kind
from lossbench.signatures import Param, Signature, inspect_signature, registrations, static_signature

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


@dataclass(frozen=True)
class Plugin:
    """One registered thing: where it is, what it takes, and (on `load`) the object itself."""

    kind: Kind
    name: str
    file: Path
    line: int
    attribute: str
    summary: str
    module: str | None
    static_signature: Signature | None = field(repr=False, default=None)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def load(self) -> Any:
        """Import the plugin's file and return the registered class or function.

        Raises ConfigError when a file that is not lossbench's own fails to import.
        """
        if self.module is None:
            module = import_file(self.file)
        elif self.module.startswith("lossbench."):
            module = importlib.import_module(self.module)  # its errors are ours
        else:
            try:
                module = importlib.import_module(self.module)
            except (Exception, SystemExit) as error:
                raise _import_error(self.file, error) from error
        return getattr(module, self.attribute)

    @cached_property
    def _signature(self) -> Signature:
        if self.static_signature is not None:
            return self.static_signature
        try:
            return inspect_signature(self.load(), self.kind)
        except ConfigError as error:
            at = "" if str(self.file) in error.message else f"{self.where}: "
            raise ConfigError(at + error.message, hint=error.hint) from error.__cause__

    @property
    def params(self) -> dict[str, Param]:
        """Hyper-parameters by name, in the order of the signature."""
        return {param.name: param for param in self._signature[0]}

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts (see FACTS) its constructor asks for."""
        return self._signature[1]

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All hyper-parameters, defaults filled in, each checked. Raises ParameterError."""
        known = self.params
        for name in given:
            if name in self.facts:
                raise ParameterError(
                    f"{self.kind} '{self.name}': '{name}' is filled in by lossbench, do not set it",
                    parameter=name,
                )
            if name not in known:
                options = ", ".join(known) or "none"
                raise ParameterError(
                    f"{self.kind} '{self.name}' has no parameter '{name}'",
                    parameter=name,
                    hint=did_you_mean(name, known) or f"its parameters: {options}",
                )
        resolved = {}
        for name, param in known.items():
            if name not in given and param.required:
                raise ParameterError(
                    f"{self.kind} '{self.name}' needs a value for '{name}' ({param.type_name})",
                    parameter=name,
                )
            value = given.get(name, param.default)
            try:
                resolved[name] = param.coerce(value)
            except ValueError as error:
                raise ParameterError(
                    f"{self.kind} '{self.name}': '{name}' must be {param.type_name}, got {value!r} ({error})",
                    parameter=name,
                ) from None
        return resolved

    def build(self, params: Mapping[str, Any], **facts: Any) -> Any:
        """Construct it from resolved or partial parameters and those of `facts` that it asks for."""
        wanted = {name: value for name, value in facts.items() if name in self.facts}
        return self.load()(**wanted, **self.resolve(params))


class Registry:
    """All plugins of one kind.

    Args:
        kind: "loss", "backbone" or "dataset".
        plugins: files of the user's own, scanned beside the package folder and the entry points.
    """

    def __init__(self, kind: Kind, plugins: Sequence[Path] = ()) -> None:
        self.kind: Kind = kind
        self.plugin_files = tuple(Path(p).resolve() for p in plugins)

    @cached_property
    def _plugins(self) -> dict[str, Plugin]:
        found: dict[str, Plugin] = {}
        for file, module in self._sources():
            for plugin in scan_file(file, module):
                if plugin.kind != self.kind:
                    continue
                first = found.get(plugin.name)
                if first is not None and first.file.resolve() == plugin.file.resolve() and first.line == plugin.line:
                    continue  # the same file reached twice, e.g. as entry point and as --plugin
                if first is not None:
                    raise ConfigError(
                        f"{self.kind} '{plugin.name}' is registered twice: {first.where} and {plugin.where}",
                        hint="rename one of them",
                    )
                found[plugin.name] = plugin
        return dict(sorted(found.items()))

    def _sources(self) -> Iterable[tuple[Path, str | None]]:
        group = GROUPS[self.kind]
        folder = Path(__file__).parent / group.rpartition(".")[2]
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith("_"):
                yield file, f"{group}.{file.stem}"
        for entry in importlib.metadata.entry_points(group=group):
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


def import_file(file: Path) -> ModuleType:
    """Import a plugin file by its path, once per process. Its error is reported as the user's, with the file."""
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    name = f"lossbench_plugin_{file.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_error(file, error) from error
    return module


def _import_error(file: Path, error: BaseException) -> ConfigError:
    return ConfigError(f"plugin {file} failed to import: {type(error).__name__}: {error}")


def _entry_point_file(entry: importlib.metadata.EntryPoint) -> Path:
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


def scan_file(file: Path, module: str | None) -> list[Plugin]:
    """The plugins a file registers, from its syntax tree alone."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise ConfigError(f"{file}:{error.lineno}: {error.msg}") from None
    except (OSError, ValueError) as error:  # unreadable, not UTF-8, null bytes
        raise ConfigError(f"{file} cannot be read as Python source ({error})") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    plugins = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        for kind, name, line in registrations(node, file):
            doc = ast.get_docstring(node) or ""
            plugins.append(
                Plugin(
                    kind=kind,
                    name=name,
                    file=file,
                    line=line,
                    attribute=node.name,
                    summary=doc.strip().split("\n\n")[0].replace("\n", " "),
                    module=module,
                    static_signature=static_signature(node, kind, classes),
                )
            )
    return plugins
