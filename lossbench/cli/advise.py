"""`lossbench advise`: which losses are worth trying on a dataset."""

from __future__ import annotations

import json as jsonlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Option
from lossbench.cli.blocks import read_blocks
from lossbench.cli.common import DEFAULT_RESULTS, DataRootOption, JsonOption, PluginOption, ResultsOption, registries
from lossbench.errors import ConfigError, SetupError
from lossbench.paths import shipped
from lossbench.scan import json_files

if TYPE_CHECKING:
    from lossbench.standings import Block


def advise(
    dataset: Annotated[
        str | None, Option(help="Its name; with --suite, one of that file's.", show_default=False)
    ] = None,
    suite: Annotated[
        str | None,
        Option(metavar="SUITE", help="A suite that describes it, e.g. your folder.", show_default=False),
    ] = None,
    counts: Annotated[
        str | None,
        Option(metavar="N,N,...", help="Its training pixels per class, or a JSON file of them.", show_default=False),
    ] = None,
    backbone: Annotated[str, Option(help="Only evidence of backbones that match this glob.", show_default=False)] = "*",
    reference: Annotated[str, Option("--reference", "--versus", help="Loss that the others are compared with.")] = "ce",
    write_suite: Annotated[
        Path | None,
        Option(
            "--write-suite",
            metavar="FILE",
            help="Write a suite that would settle it.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Say which losses are worth trying on a dataset with these class shares, by what was measured on others.

    Evidence is shown, not only names; where it separates nothing, that is said. Counts come from the records, if the
    dataset has any, or are taken from its masks. Without records of your own, those that come with lossbench speak.

    \b
    Example:
      lossbench advise --dataset camvid
      lossbench advise --suite my_images.yaml --write-suite settle.yaml
    """
    if sum(given is not None for given in (counts, suite or dataset)) != 1:
        raise ConfigError("of which dataset?", hint="--dataset NAME, --suite FILE, or --counts 90000,5000,300")
    results = _evidence(results)
    patterns = {"dataset": "*", "backbone": backbone, "loss": "*"}
    blocks, warnings = read_blocks(results, patterns, fresh=False, plugin=plugin, reference=reference)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    name, entry, pixels = _asked(dataset, suite, counts, blocks, plugin, data_root)
    from lossbench import advice
    from lossbench.views import advice as view

    found = advice.advise(advice.shape_of(pixels), blocks, reference)
    if write_suite is not None:
        _write(write_suite, view.suite(found, entry, name))
    if json:
        sys.stdout.write(view.render_json(found, name))
        return
    from lossbench.cli.common import stdout

    view.render(found, name, stdout())
    if write_suite is not None:
        print(f"wrote {write_suite}", file=sys.stderr)


def _evidence(results: Path) -> Path:
    """The results folder; in place of the default one while it holds no record, that which comes with lossbench."""
    if results != DEFAULT_RESULTS or any(json_files(results / "records")):
        return results
    come = shipped("results")
    if not any(json_files(come / "records")):
        return results
    print(f"no records in {results}: the evidence is the records that come with lossbench", file=sys.stderr)
    return come


def _asked(
    dataset: str | None,
    suite: str | None,
    counts: str | None,
    blocks: Sequence[Block],
    plugin: Sequence[Path] | None,
    data_root: Path | None,
) -> tuple[str, dict[str, Any], Sequence[int]]:
    """Name, entry of a suite, and training pixels per class of the dataset that is asked for."""
    if counts is not None:
        return "these counts", {"name": "folder", "path": "CHANGE ME", "classes": ["CHANGE", "ME"]}, _numbers(counts)
    if suite is not None:
        from lossbench.suite import load_suite

        loaded = load_suite(suite, plugins=plugin or ())
        fitting = [each for each in loaded.datasets if dataset in (None, each.name, each.label)]
        if len(fitting) != 1:
            names = ", ".join(each.label for each in loaded.datasets)
            raise ConfigError(f"of which dataset of {suite}?", hint=f"--dataset; it has {names}")
        chosen = fitting[0]
        given = {key: chosen.params[key] for key in chosen.given}
        entry = {"name": chosen.name, **{k: str(v) if isinstance(v, Path) else v for k, v in given.items()}}
        return chosen.label, entry, _decoded(loaded.registries["dataset"].get(chosen.name), chosen.params, data_root)
    assert dataset is not None
    measured = [block for block in blocks if dataset in (block.dataset, block.dataset_name)]
    exact = [block for block in measured if block.dataset == dataset] or measured
    if exact:
        if len({tuple(block.train_pixels) for block in exact}) > 1:
            raise ConfigError(
                f"'{dataset}' was measured with several settings",
                hint="name one: " + ", ".join(f"'{title}'" for title in sorted({b.dataset for b in exact})),
            )
        label = exact[0].dataset  # it shows what a suite spelled out
        spelled = {key: value for key, value in exact[0].dataset_params.items() if re.search(rf"[(,] ?{key}=", label)}
        return label, {"name": exact[0].dataset_name, **spelled}, exact[0].train_pixels
    return dataset, {"name": dataset}, _decoded(registries(plugin)["dataset"].get(dataset), {}, data_root)


def _numbers(counts: str) -> Sequence[int]:
    """Of a list of numbers, else of a file of that name. Raises ConfigError."""
    try:
        return [int(float(part.replace("_", ""))) for part in counts.split(",")]
    except (ValueError, OverflowError):  # OverflowError: infinity
        pass
    try:
        found = jsonlib.loads(Path(counts).read_text(encoding="utf-8"))
        return [int(number) for number in (found.values() if isinstance(found, dict) else found)]
    except (OSError, ValueError, TypeError, OverflowError):
        shown = counts if len(counts) <= 60 else f"{counts[:60]}..."
        raise ConfigError(
            f"--counts {shown}: neither numbers nor a JSON file of numbers", hint="e.g. --counts 90000,5000,300"
        ) from None


def _decoded(plugin: Any, params: Any, data_root: Path | None) -> Sequence[int]:
    """Class counts of the training split, decoded into the cache if they are not there."""
    from lossbench.data.cache import open_split
    from lossbench.data.roots import cache_root, dataset_root
    from lossbench.data.roots import data_root as resolve

    built = plugin.build(dict(params), root=dataset_root(resolve(data_root), plugin.name))
    return [int(number) for number in open_split(built, "train", cache_root=cache_root()).class_counts]


def _write(path: Path, text: str) -> None:
    if path.exists():
        raise ConfigError(f"{path} is there already", hint="choose another --write-suite, or remove it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"cannot write {path}: {error.strerror or error}", hint="choose another --write-suite"
        ) from error
