"""`lossbench figure`: figures for a paper from the records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.blocks import read_blocks
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    BackboneGlob,
    DataRootOption,
    DatasetGlob,
    FreshOption,
    JsonOption,
    LossGlob,
    PluginOption,
    ResultsOption,
    choose,
    open_store,
    print_json,
    stdout,
    warn,
)
from lossbench.errors import ConfigError

if TYPE_CHECKING:
    from lossbench.figures.make import Drawing
    from lossbench.standings import Block
    from lossbench.store import Store

KINDS = ("panels", "classes", "curves", "sweep", "ranks", "profile", "gain", "tuning")
#: Options of one figure alone.
_OWN = {
    "style": "classes", "parameter": "sweep", "metric": "sweep", "seed": "panels", "image": "panels",
    "columns": "panels",
}  # fmt: skip
#: Inches.
_WIDTHS = (2.0, 40.0)


class Style(StrEnum):
    bars = "bars"
    dots = "dots"


def figure(
    kind: Annotated[
        str, Argument(metavar="KIND", help="panels, classes, curves, sweep, ranks, profile, gain or tuning.")
    ],
    dataset: DatasetGlob = "*",
    backbone: BackboneGlob = "*",
    loss: LossGlob = "*",
    variant: Annotated[
        str | None,
        Option(metavar="TEXT", help="Of several protocols, the one titled so; main: the usual.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        Option(
            "--output", "-o", metavar="FILE", help="A .png, .svg or .pdf. Default: KIND-DATASET.png.",
            dir_okay=False, show_default=False,
        ),
    ] = None,
    width: Annotated[float, Option(metavar="INCHES", help="Width; 3.5 for one column of a paper.")] = 7.16,
    style: Annotated[
        Style | None, Option(help="classes: bars or dots. Default: bars where they fit.", show_default=False)
    ] = None,
    parameter: Annotated[
        str | None, Option(metavar="NAME", help="sweep: the dataset's parameter to go along.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="sweep: a score. May be repeated. Default: miou, tail_miou.", show_default=False),
    ] = None,
    seed: Annotated[
        int | None, Option(metavar="N", help="panels: whose predictions. Default: the first.", show_default=False)
    ] = None,
    image: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="panels: show this image. May be repeated. Default: those kept.",
               show_default=False),
    ] = None,
    columns: Annotated[
        int | None, Option(metavar="N", help="panels: so many side by side.", show_default=False)
    ] = None,
    reference: Annotated[str, Option(help="Loss that comes first.")] = "ce",
    fresh: FreshOption = False,
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Draw a figure for a paper and print its caption; with --json, the numbers in it.

    panels: image, truth and what each loss predicts (a run keeps predictions of a few fixed images). classes: IoU per
    class, frequent classes first. curves: training loss and validation mIoU over the steps. sweep: scores over a
    parameter of the dataset. ranks: mean ranks over at least five datasets and backbones, with the critical difference.
    profile: the share of runs above a score. gain: IoU per class minus the reference's, along class frequency,
    of the one loss that --loss names. tuning: every trial of a search, and the best of n. Runs of different protocols
    are never mixed.

    \b
    Example:
      lossbench figure classes --dataset camvid --output classes.pdf
    """
    choose(kind, KINDS, "figure")
    given = {
        "style": style, "parameter": parameter, "metric": metric, "seed": seed, "image": image, "columns": columns,
    }  # fmt: skip
    for name, value in given.items():
        if value not in (None, []) and _OWN[name] != kind:
            raise ConfigError(f"--{name} is of `figure {_OWN[name]}`, not of `figure {kind}`", hint="leave it out")
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        raise ConfigError(f"--width {width:g} is none of {_WIDTHS[0]:g} to {_WIDTHS[1]:g} inches", hint="e.g. 7.16")
    if columns is not None and columns < 1:
        raise ConfigError(f"--columns {columns}: it takes at least 1", hint="leave it out")
    if kind == "sweep" and parameter is None:
        raise ConfigError(
            "which parameter?", hint="e.g. lossbench figure sweep --dataset streets --parameter imbalance"
        )
    from lossbench.figures.saving import format_of

    if output is not None:
        format_of(output)  # before the work
    store = open_store(results)
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    if kind == "tuning":
        drawing = _tuning(results, patterns, plugin, reference, width)
        _save(drawing, kind, dataset.replace("*", "") or "all", output, json=json)
        return
    blocks, warnings = read_blocks(results, patterns, fresh=fresh, plugin=plugin, reference=reference)
    for warning in warnings:
        warn(warning)
    draw: Callable[[], Drawing]
    if kind == "sweep":
        from lossbench.figures.choice import of_variant
        from lossbench.figures.make import make_sweep
        from lossbench.figures.sweep import METRICS

        blocks = of_variant(blocks, variant)
        name = str(blocks[0].parts[0].condition.cell["dataset"]["name"])
        draw = partial(make_sweep, blocks, parameter or "", metrics=metric or METRICS, width=width, reference=reference)
    elif kind in ("ranks", "profile"):
        from lossbench.figures.make import make_profile, make_ranks

        name = dataset.replace("*", "") or "all"
        draw = partial(make_ranks if kind == "ranks" else make_profile, blocks, width=width)
    else:
        from lossbench.figures.choice import one_block

        block = one_block(blocks, variant, dataset=dataset, backbone=backbone)
        name = block.dataset
        if kind == "panels":
            draw = partial(_panels, block, store, seed, image or (), columns, width, reference, plugin or (), data_root)
        elif kind == "gain":
            from lossbench.figures.make import make_gain

            draw = partial(make_gain, block, width=width)
        elif kind == "classes":
            from lossbench.figures.make import make_classes

            draw = partial(
                make_classes, block, style=None if style is None else style.value, width=width, reference=reference
            )
        else:
            from lossbench.figures.make import make_curves

            draw = partial(make_curves, block, width=width, reference=reference)
    _save(draw(), kind, name, output, json=json)


def _tuning(
    results: Path, patterns: Mapping[str, str], plugin: Sequence[Path] | None, reference: str, width: float
) -> Drawing:
    from lossbench.cli.tuning import read_groups
    from lossbench.figures.make import make_tuning
    from lossbench.tuning.curves import chosen_groups

    groups, warnings = read_groups(None, results, plugin)
    for warning in warnings:
        warn(warning)
    found = [group.ordered(reference) for group in chosen_groups(groups, **patterns)]
    if len(found) != 1:
        titles = "; ".join(group.title for group in found) or "none"
        raise ConfigError(f"of which search? These match: {titles}", hint="choose with --dataset and --backbone")
    return make_tuning(found[0], width=width)


def _save(drawing: Drawing, kind: str, name: str, output: Path | None, *, json: bool) -> None:
    path = output or Path(f"{kind}-{re.sub(r'[^A-Za-z0-9_.=]+', '-', name).strip('-')}.png")
    drawing.save(path)
    if json:
        print_json({
            "kind": kind, "file": path, "title": drawing.title, "caption": drawing.caption,
            "numbers": drawing.digest, "records": drawing.records, "data": drawing.data,
        })  # fmt: skip
        return
    out = stdout()
    out.print(str(path), soft_wrap=True)
    out.print(drawing.caption)


def _panels(
    block: Block,
    store: Store,
    seed: int | None,
    images: Sequence[str],
    columns: int | None,
    width: float,
    reference: str,
    plugins: Sequence[Path],
    data_root: Path | None,
) -> Drawing:
    from lossbench.figures.make import make_panels

    drawing, missing = make_panels(
        block, store, seed=seed, images=images, columns=columns, width=width, reference=reference, plugins=plugins,
        data_root=data_root,
    )  # fmt: skip
    if missing:
        warn(f"without panels, for no predictions of that seed were kept: {', '.join(missing)}")
    return drawing
