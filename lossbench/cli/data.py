"""`lossbench data`: where data is expected, how to get it, whether it is what it must be, and its decoded copy."""

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
    stdout,
)
from lossbench.errors import ConfigError, ParameterError
from lossbench.registry import Plugin, Registry

if TYPE_CHECKING:
    from lossbench.datasets.base import SegmentationDataset


def data(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="where, get, check, prepare or list.")] = "where",
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A dataset; all of them if left out (where, list).", show_default=False),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            metavar="SUITE",
            help="Check or prepare the dataset with the parameters this suite gives it.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Only this split (prepare). May be repeated.", show_default=False),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before downloading (get) or decoding (prepare).")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="A mirror of the archive to download (get); ending in /, a folder that holds the archives.",
            show_default=False,
        ),
    ] = None,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Say where data is expected (where), how to get it (get), check it (check), or decode it once for all (prepare).

    Getting prints the files, where to register for them and where they go; what needs no registration (ade20k,
    loveda, oxford_pet, voc2010) it downloads, checks and unpacks, and goes on where it was stopped. With --json it
    only prints.
    Checking reads every image and mask: missing pairs, sizes, labels out of range,
    another number of images than published. It exits with 3 on a problem.
    Preparing decodes into the cache, which all cells share: it says the size first and asks on a terminal. `run` does
    it by itself for what is missing. `list` shows what the cache holds.

    \b
    Example:
      lossbench data check camvid --data-root ~/data
      lossbench data prepare camvid --split train --yes
    """
    choose(action, ("where", "get", "check", "prepare", "list"), "action")
    registry = registries(plugin)["dataset"]
    if action == "list":
        from lossbench.cli.prepare import list_cached
        from lossbench.data.roots import cache_root

        list_cached(cache_root(), [registry.get(name).name] if name else [], json=json)
        return
    if action == "where":
        _where(registry, name, data_root, json)
        return
    if name is None:
        raise ConfigError(
            f"which dataset to {action}?", hint=f"lossbench data {action} NAME, one of: {', '.join(registry.names())}"
        )
    if action == "get":
        _get(registry.get(name), data_root, url=url, yes=yes, json=json)
    elif action == "prepare":
        _prepare(registry, name, suite, split, data_root, plugin, yes=yes, json=json)
    else:
        _check(registry, name, suite, data_root, plugin, json)


def _where(registry: Registry, name: str | None, data_root: Path | None, json: bool) -> None:
    from lossbench.cli.dataplace import place, read_from, state
    from lossbench.data.roots import locate_data_root

    root, source = locate_data_root(data_root)
    plugins = [registry.get(name)] if name is not None else list(registry)
    rows = [place(plugin, root) for plugin in plugins]
    if json:
        print_json({"data_root": str(root), "set_by": source, "datasets": rows})
        return
    out = stdout()
    out.print(f"data root: {root} ({source})", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for overflow in ("ellipsis", "ellipsis", "fold"):  # a path must be whole
        table.add_column(overflow=overflow, no_wrap=overflow == "ellipsis")
    for row in rows:
        elsewhere = read_from(row)
        table.add_row(row["name"], state(row), elsewhere or row["folder"] or "")
    out.print(table)


def _get(plugin: Plugin, data_root: Path | None, *, url: str | None, yes: bool, json: bool) -> None:
    from lossbench.cli.dataget import get
    from lossbench.cli.dataplace import place
    from lossbench.data.roots import locate_data_root

    get(plugin, place(plugin, locate_data_root(data_root)[0]), data_root, url=url, yes=yes, json=json)


def _check(
    registry: Registry, name: str, suite: str | None, data_root: Path | None, plugins: list[Path] | None, json: bool
) -> None:
    from lossbench.cli.datacheck import print_report, report

    reports = [
        report(label, *_build(plugin, params, data_root), needed=splits)
        for label, plugin, params, splits in _chosen(registry, name, suite, plugins)
    ]
    if json:
        print_json(reports)
    else:
        for found in reports:
            print_report(found)
    if any(found["problems"] for found in reports):
        raise typer.Exit(3)


def _prepare(
    registry: Registry,
    name: str,
    suite: str | None,
    split: Sequence[str] | None,
    data_root: Path | None,
    plugins: list[Path] | None,
    *,
    yes: bool,
    json: bool,
) -> None:
    from lossbench.cli.prepare import prepare
    from lossbench.data.roots import cache_root

    datasets = []
    for label, plugin, params, splits in _chosen(registry, name, suite, plugins):
        dataset, _ = _build(plugin, params, data_root)
        datasets.append((label, dataset, split or splits or dataset.splits))
    prepare(datasets, cache_root(), yes=yes, json=json)


def _chosen(
    registry: Registry, name: str, suite: str | None, plugins: list[Path] | None
) -> list[tuple[str, Plugin, Mapping[str, Any], Sequence[str]]]:
    """(label, plugin, parameters, splits that are needed) of a dataset, as a suite describes it if one is given."""
    if suite is None:
        return [(name, registry.get(name), {}, ())]
    from lossbench.suite import load_suite

    loaded = load_suite(suite, plugins=plugins or ())
    components = [component for component in loaded.datasets if name in (component.name, component.label)]
    if not components:
        registry.get(name)  # an unknown name is said first
        raise ConfigError(f"the suite '{suite}' has no dataset '{name}'")
    plugin_of = loaded.registries["dataset"].get
    splits = tuple(dict.fromkeys((loaded.protocol.train_split, loaded.protocol.eval_split)))
    return [(component.label, plugin_of(component.name), component.params, splits) for component in components]


def _build(
    plugin: Plugin, params: Mapping[str, Any], data_root: Path | None
) -> tuple[SegmentationDataset, Path | None]:
    """(the dataset, its folder). Raises DataError when the data is not there at all."""
    from lossbench.cli.dataplace import beside
    from lossbench.data.roots import dataset_root, locate_data_root, require_dataset_root

    root = None
    if "root" in plugin.facts:
        parent = locate_data_root(data_root)[0]
        root = dataset_root(parent, plugin.name)
        if not beside(plugin, parent):  # else its files may lie there: it says itself what is missing
            how = getattr(plugin.load(), "how_to_get", "")
            root = require_dataset_root(plugin.name, how_to_get=how, given=data_root)
    try:
        return plugin.build(params, root=root), root
    except ParameterError as error:
        raise ConfigError(error.message, hint="its parameters come from a suite: add --suite SUITE") from None
