"""What `lossbench check` is told to check: a name, a file, a module or an installed package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lossbench.errors import ConfigError, UnknownNameError, did_you_mean
from lossbench.registry import KINDS, Kind, Plugin, Registry, all_registries, scan_file


def find(target: str, *, kind: Kind | None = None, plugins: Sequence[Path] = ()) -> list[Plugin]:
    """The plugins that `target` means, in the order of their file.

    Args:
        target: a registered name; a Python file, whose plugins go before those of the same name in an installed
            package; or a module or package, whose files are searched for registrations (`my_pkg`, `my_pkg.losses`), or
            such a one and a name in it (`my_pkg.losses.my_loss`).
        kind: only plugins of this kind.
        plugins: further files whose names are known.

    Raises:
        UnknownNameError: nothing is called so.
        ConfigError: a file that registers nothing, or not what is wanted; a name registered twice.
    """
    if target.endswith(".py") or "/" in target or "\\" in target:
        return _wanted(_of_file(Path(target), plugins), kind, target)
    known = all_registries(plugins)
    named = [registry.get(target) for of, registry in known.items() if target in registry and kind in (None, of)]
    if named:
        return named
    modules = _of_module(target)
    if modules is None and "." in target:
        module, _, name = target.rpartition(".")
        modules = [plugin for plugin in _of_module(module) or () if plugin.name == name] or None
    if modules is not None:
        return _wanted(modules, kind, target)
    _tell_what_it_is(target, kind, known)
    names = [plugin.name for of, registry in known.items() if kind in (None, of) for plugin in registry]
    raise UnknownNameError(
        f"no {kind or 'loss, backbone or dataset'} is called '{target}', nor is it a file or an installed package",
        hint=did_you_mean(target, names) or "a file is named with its ending: my_loss.py",
    )


def _tell_what_it_is(target: str, kind: Kind | None, known: Mapping[Kind, Registry]) -> None:
    """Raises UnknownNameError where it is clear what was meant: another kind, a folder, a package by the name it is
    installed under."""
    other = next((of for of, registry in known.items() if target in registry), None)
    if other is not None:
        raise UnknownNameError(
            f"no {kind} is called '{target}': it is a {other}", hint=f"lossbench check {other} {target}"
        )
    module = target.replace("-", "_")
    if module != target and _of_module(module):
        raise UnknownNameError(f"'{target}' is no name that Python imports", hint=f"lossbench check {module}")
    if Path(target).is_dir():
        raise UnknownNameError(f"{target} is a folder", hint="name a file in it, or a package by its import name")


def parse_params(given: Sequence[str]) -> dict[str, Any]:
    """Parameters written as NAME=VALUE, the values as YAML. Raises ConfigError."""
    from lossbench.yamlfile import parse_yaml

    params: dict[str, Any] = {}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"--param {item}: not NAME=VALUE", hint="e.g. --param gamma=3")
        if name in params:
            raise ConfigError(f"--param {name} is given twice")
        params[name] = parse_yaml(text, Path(f"--param {name}")).data
    return params


def plugin_of(kind: Kind, name: str, file: Path, module: str | None) -> Plugin:
    """The plugin that another process has found."""
    found = _of_file(file, ()) if module is None else [_peered(plugin) for plugin in scan_file(file, module)]
    return next(plugin for plugin in found if plugin.kind == kind and plugin.name == name)


def _of_file(file: Path, plugins: Sequence[Path]) -> list[Plugin]:
    if file.is_dir():
        raise ConfigError(f"{file} is a folder", hint="name a file in it, or an installed package by its import name")
    if not file.is_file():
        raise ConfigError(f"no such file: {file}", hint="`lossbench new loss my_loss` writes one to start from")
    resolved = file.resolve()
    # Through the registries, so that a name that is taken is an error here, as it would be in a suite.
    registries = all_registries([*plugins, resolved], meant=resolved)
    return sorted(
        (plugin for registry in registries.values() for plugin in registry if plugin.file.resolve() == resolved),
        key=lambda plugin: plugin.line,
    )


def _of_module(name: str) -> list[Plugin] | None:
    """The plugins of a module, or of all modules of a package; None when there is no such module."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # the `lossbench` script does not look here, `python -m` and pytest do
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    except Exception as error:  # the parent package is imported, and may raise anything
        raise ConfigError(f"'{name}' failed to import: {type(error).__name__}: {error}") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [_peered(plugin) for plugin in scan_file(origin, name)]
    return [_peered(plugin) for module, file in _modules(name, origin.parent) for plugin in scan_file(file, module)]


def _modules(package: str, folder: Path) -> Iterable[tuple[str, Path]]:
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)]), file


def _peered(plugin: Plugin) -> Plugin:
    """It can look up other plugins by name."""
    return replace(plugin, peer=Registry(plugin.kind).get)


def _wanted(found: list[Plugin], kind: Kind | None, target: str) -> list[Plugin]:
    kept = [plugin for plugin in found if kind in (None, plugin.kind)]
    if not kept:
        what = kind or " or ".join([", ".join(KINDS[:-1]), KINDS[-1]])
        raise ConfigError(
            f"{target} registers no {what}", hint=f"decorate a class with @register_{kind or 'loss'}('name')"
        )
    return kept
