"""`lossbench list`: what there is to choose from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from lossbench.cli.arguments import Argument
from lossbench.cli.common import JsonOption, PluginOption, choose, describe_params, literal, print_json, stdout
from lossbench.errors import LossbenchError
from lossbench.registry import Kind, Plugin, Registry

_KINDS: Mapping[str, Kind] = {"losses": "loss", "backbones": "backbone", "datasets": "dataset"}


def list_(
    what: Annotated[str, Argument(metavar="WHAT", help="losses, backbones, datasets or suites.")],
    pattern: Annotated[
        str, Argument(metavar="PATTERN", help="Only names that match it, e.g. 'fcn*'.", show_default=False)
    ] = "*",
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List losses, backbones, datasets or suites.

    Each with its summary and its parameters with their defaults.

    \b
    Example:
      lossbench list losses '*focal*'
    """
    choose(what, [*_KINDS, "suites"], "kind of thing to list")
    entries = _suites(pattern) if what == "suites" else _plugins(Registry(_KINDS[what], tuple(plugin or ())), pattern)
    if json:
        print_json(entries)
        return
    if not entries:
        print(f"no {what} match '{pattern}'" if pattern != "*" else f"no {what}", file=sys.stderr)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for entry in entries:
        table.add_row(entry["name"], entry["summary"])
        if entry.get("parameters"):
            table.add_row("", Text("  ".join(_parameter(p) for p in entry["parameters"]), style="dim"))
        if entry.get("file") and what == "suites":
            table.add_row("", Text(entry["file"], style="dim"))
    stdout().print(table)


def _plugins(registry: Registry, pattern: str) -> list[dict[str, Any]]:
    plugins = [registry.get(name) for name in registry.names(pattern)]
    return [plugin_json(plugin) for plugin in plugins]


def plugin_json(plugin: Plugin) -> dict[str, Any]:
    """A plugin as `--json` shows it."""
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "summary": plugin.summary,
        "parameters": describe_params(plugin.params),
        "facts": sorted(plugin.facts),
        "file": str(plugin.file),
        "line": plugin.line,
    }


def _suites(pattern: str) -> list[dict[str, Any]]:
    from lossbench.suite import known_suites
    from lossbench.yamlfile import read_yaml

    entries = []
    for name, file in known_suites().items():
        if not fnmatchcase(name, pattern):
            continue
        try:
            data = read_yaml(file).data
            summary = str(data.get("description") or "") if isinstance(data, dict) else "(not a suite)"
        except LossbenchError as error:  # listed all the same: it is there, and this says what is wrong with it
            summary = f"({error.message})"
        entries.append({"kind": "suite", "name": name, "summary": summary, "file": str(file)})
    return entries


def _parameter(param: Mapping[str, Any]) -> str:
    default = f"={literal(param['default'])}" if "default" in param else f" ({param['type']}, required)"
    # A parameter is never broken over two lines.
    return f"{param['name']}{default}".replace(" ", "\N{NO-BREAK SPACE}")
