"""`lossbench data`: where data is expected, how to get it, and whether it is what it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lossbench.cli.common import (
    DataRootOption,
    JsonOption,
    PluginOption,
    choose,
    print_json,
    registries,
    stderr,
    stdout,
)
from lossbench.errors import ConfigError, DataError, ParameterError
from lossbench.registry import Plugin, Registry

if TYPE_CHECKING:
    from lossbench.datasets.base import SegmentationDataset

_SHOWN = 20


def data(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="where, get or check.")] = "where",
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A dataset; all of them if left out (where).", show_default=False),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="SUITE",
            help="Check the dataset with the parameters this suite gives it.",
            show_default=False,
        ),
    ] = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Say where data is expected (where), how to get it (get), or check it (check).

    Checking reads every image and mask: missing pairs, sizes, labels out of range. It exits with 3 on a problem.

    \b
    Example:
      lossbench data check camvid --data-root ~/data
    """
    choose(action, ("where", "get", "check"), "action")
    registry = registries(plugin)["dataset"]
    if action == "where":
        _where(registry, name, data_root, json)
        return
    if name is None:
        raise ConfigError(
            f"which dataset to {action}?", hint=f"lossbench data {action} NAME, one of: {', '.join(registry.names())}"
        )
    if action == "get":
        _get(registry.get(name), data_root, json)
    else:
        _check(registry, name, suite, data_root, plugin, json)


def _where(registry: Registry, name: str | None, data_root: Path | None, json: bool) -> None:
    from lossbench.data.roots import locate_data_root

    root, source = locate_data_root(data_root)
    plugins = [registry.get(name)] if name is not None else list(registry)
    rows = [_place(plugin, root) for plugin in plugins]
    if json:
        print_json({"data_root": str(root), "set_by": source, "datasets": rows})
        return
    out = stdout()
    out.print(f"data root: {root} ({source})", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for row in rows:
        state = "needs no folder" if row["folder"] is None else "there" if row["there"] else "missing"
        table.add_row(row["name"], state, row["folder"] or "")
    out.print(table)


def _place(plugin: Plugin, root: Path) -> dict[str, Any]:
    from lossbench.data.roots import dataset_root

    folder = dataset_root(root, plugin.name) if "root" in plugin.facts else None
    return {
        "name": plugin.name,
        "folder": str(folder) if folder else None,
        "there": folder.is_dir() if folder else True,
    }


def _get(plugin: Plugin, data_root: Path | None, json: bool) -> None:
    from lossbench.data.roots import locate_data_root

    loaded = plugin.load()
    facts = _place(plugin, locate_data_root(data_root)[0]) | {
        label: getattr(loaded, label, "") for label in ("how_to_get", "licence", "homepage")
    }
    if json:
        print_json(facts)
        return
    out = stdout()
    out.print(f"{plugin.name}: {facts['how_to_get'] or 'nothing to get'}", soft_wrap=True)
    if facts["folder"]:
        out.print(f"expected at: {facts['folder']} ({'there' if facts['there'] else 'missing'})", soft_wrap=True)
    for label in ("licence", "homepage"):
        if facts[label]:
            out.print(f"{label}: {facts[label]}", soft_wrap=True)


def _check(
    registry: Registry, name: str, suite: str | None, data_root: Path | None, plugins: list[Path] | None, json: bool
) -> None:
    if suite is None:
        reports = [_report(registry.get(name), {}, name, data_root)]
    else:
        from lossbench.suite import load_suite

        loaded = load_suite(suite, plugins=plugins or ())
        components = [component for component in loaded.datasets if name in (component.name, component.label)]
        if not components:
            registry.get(name)  # an unknown name is said first
            raise ConfigError(f"the suite '{suite}' has no dataset '{name}'")
        plugin_of = loaded.registries["dataset"].get
        scored = (loaded.protocol.train_split, loaded.protocol.eval_split)
        reports = [
            _report(plugin_of(component.name), component.params, component.label, data_root, needed=scored)
            for component in components
        ]
    if json:
        print_json(reports)
    else:
        for report in reports:
            _print_report(report)
    if any(report["problems"] for report in reports):
        raise typer.Exit(3)


def _report(
    plugin: Plugin, params: Mapping[str, Any], label: str, data_root: Path | None, needed: Sequence[str] = ()
) -> dict[str, Any]:
    """Images by split, problems and warnings; a split of `needed` that is not there is a problem.

    Raises DataError when the data is not there at all."""
    from lossbench.data.roots import require_dataset_root
    from lossbench.datasets.base import WARNING

    root = None
    if "root" in plugin.facts:
        how = getattr(plugin.load(), "how_to_get", "")
        root = require_dataset_root(plugin.name, how_to_get=how, given=data_root)
    try:
        dataset = plugin.build(params, root=root)
    except ParameterError as error:
        raise ConfigError(error.message, hint="its parameters come from a suite: add --suite SUITE") from None
    stderr().print(f"checking {label} ...", style="dim")
    said = dataset.check()
    for split in needed:
        if split not in dataset.splits:
            said.append(_missing(dataset, split))
    return {
        "name": label,
        "folder": str(root) if root else None,
        "images": _images(dataset),
        "problems": [line for line in said if WARNING not in line],
        "warnings": [line.replace(WARNING, "") for line in said if WARNING in line],
    }


def _missing(dataset: SegmentationDataset, split: str) -> str:
    try:
        dataset.names(split)
    except DataError as error:
        return f"{split}: {error.message}"
    return f"{split}: not among the splits of the dataset ({', '.join(dataset.splits)})"


def _images(dataset: SegmentationDataset) -> dict[str, int]:
    images = {}
    for split in dataset.splits:
        try:
            images[split] = len(dataset.names(split))
        except DataError:  # `check` reports it
            images[split] = 0
    return images


def _print_report(report: Mapping[str, Any]) -> None:
    out = stdout()
    images = ", ".join(f"{split} {count}" for split, count in report["images"].items())
    out.print(f"{report['name']}: images: {images}", soft_wrap=True)
    for line in report["warnings"]:
        out.print(f"  warning: {line}", soft_wrap=True)
    problems = report["problems"]
    for line in problems[:_SHOWN]:
        out.print(f"  problem: {line}", soft_wrap=True)
    if len(problems) > _SHOWN:
        out.print(f"  and {len(problems) - _SHOWN} more problems (--json shows all)")
    if not problems:
        out.print("  no problems")
