"""`lossbench diagnostics`: what losses told of themselves over training."""

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


def diagnostics(
    dataset: DatasetGlob = "*",
    backbone: BackboneGlob = "*",
    loss: LossGlob = "*",
    fresh: FreshOption = False,
    format: Annotated[
        Format | None, Option("--format", "-f", help="How to write it. Default: table.", show_default=False)
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Show what losses logged of themselves over training, e.g. the spread of Monte-Carlo passes.

    At the start, in the middle and at the end of training: mean and spread over seeds. Per class, commonest first: mean
    over training. Any loss's own diagnostics are shown, a plugin's too.

    \b
    Example:
      lossbench diagnostics --dataset camvid --loss "cdfl*"
    """
    if json and format is not None:
        raise ConfigError(f"--json and --format {format} contradict each other", hint="give one of them")
    patterns = {"dataset": dataset, "backbone": backbone, "loss": loss}
    blocks, warnings = read_blocks(results, patterns, sort="loss", fresh=fresh, plugin=plugin)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from lossbench.diagnosis import diagnose
    from lossbench.readmany import read_record
    from lossbench.views import diagnosis as view

    found = [each for each in (diagnose(block, read_record) for block in blocks) if each.told]
    if not found:
        silent = sorted({row.label for block in blocks for row in block.rows})
        raise ConfigError(
            f"no diagnostics in the records of {', '.join(silent)}",
            hint="losses that log some: cdfl, df, uce; or one of your own with `diagnostics` or `diagnose`",
        )
    if json:
        sys.stdout.write(view.render_json(found, warnings))
    elif format is Format.markdown:
        sys.stdout.write(view.render_markdown(found))
    else:
        from lossbench.cli.common import stdout

        view.render(found, stdout())
