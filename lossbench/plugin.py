"""One plugin: read from its file's syntax tree without importing it, and loaded when it is built."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lossbench.errors import ConfigError, ParameterError, did_you_mean
from lossbench.signatures import Kind, Param, Signature, inspect_signature, registrations, static_signature
from lossbench.terms import HINT, build_terms, resolve_terms


def _alone(name: str) -> Plugin:
    raise ConfigError(f"'{name}' cannot be looked up: this plugin comes from no registry")


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
    #: Another plugin of the same registry by name, for those made of others.
    peer: Callable[[str], Plugin] = field(repr=False, compare=False, default=_alone)

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

    @cached_property
    def term_parameters(self) -> frozenset[str]:
        """Names of the parameters that hold terms, as far as the syntax tree tells."""
        return frozenset(param.name for param in (self.static_signature or ((),))[0] if param.takes_terms)

    def check(self, param: Param, value: Any) -> Any:
        """The value of one hyper-parameter in its type, terms resolved. Raises ParameterError."""
        try:
            checked = param.coerce(value)
        except ValueError as error:
            raise ParameterError(
                f"{self.kind} '{self.name}': '{param.name}' must be {param.type_name}, got {value!r} ({error})",
                parameter=param.name,
                hint=HINT if param.takes_terms else None,
            ) from None
        return resolve_terms(self, param.name, checked) if param.takes_terms else checked

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
            resolved[name] = self.check(param, given.get(name, param.default))
        return resolved

    def build(self, params: Mapping[str, Any], **facts: Any) -> Any:
        """Construct it from resolved or partial parameters and those of `facts` that it asks for."""
        wanted = {name: value for name, value in facts.items() if name in self.facts}
        resolved = self.resolve(params)
        for name, param in self.params.items():
            if param.takes_terms:
                resolved[name] = build_terms(self, resolved[name], facts)
        return self.load()(**wanted, **resolved)


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


def syntax_tree(file: Path) -> ast.Module:
    """The syntax tree of a source file, parsed once while it does not change. Raises as reading and `ast.parse` do."""
    stat = file.stat()
    return _parsed(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _parsed(file: Path, _mtime_ns: int, _size: int) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def scan_file(file: Path, module: str | None) -> list[Plugin]:
    """The plugins a file registers, from its syntax tree alone."""
    try:
        tree = syntax_tree(file)
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
