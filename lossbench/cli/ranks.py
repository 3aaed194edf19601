"""`lossbench ranks`: losses over several blocks."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.blocks import read_blocks
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    BackboneGlob,
    DatasetGlob,
    FreshOption,
    JsonOption,
    LossGlob,
    PluginOption,
    ResultsOption,
)
from lossbench.errors import ConfigError


class Format(StrEnum):
    table = "table"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"
    json = "json"


def ranks(
    dataset: DatasetGlob = "*",
    backbone: BackboneGlob = "*",
    loss: LossGlob = "*",
    reference: Annotated[str, Option("--reference", "--versus", help="Loss that the others are compared with.")] = "ce",
    fresh: FreshOption = False,
    format: Annotated[
        Format | None, Option("--format", "-f", help="How to write it. Default: table.", show_default=False)
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Rank losses over several datasets and backbones, and say what such ranks can tell.

    Only losses that all the blocks have are ranked, and of each dataset and backbone the usual protocol; what is left
    out is named. `lossbench figure ranks` and `figure profile` draw it.

    \b
    Example:
      lossbench ranks --dataset "streets*" --versus ce
    """
    if json and format not in (None, Format.json):
        raise ConfigError(f"--json and --format {format} contradict each other", hint="give one of them")
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    blocks, warnings = read_blocks(results, patterns, fresh=fresh, plugin=plugin, reference=reference)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from lossbench.ranking import rank
    from lossbench.views import ranking as view

    found = rank(blocks)
    if json or format is Format.json:
        sys.stdout.write(view.render_json(found))
    elif format is Format.markdown:
        sys.stdout.write(view.render_markdown(found))
    elif format is Format.csv:
        sys.stdout.write(view.render_csv(found))
    elif format is Format.latex:
        sys.stdout.write(view.render_latex(found))
    else:
        from lossbench.cli.common import stdout

        view.render(found, stdout())
