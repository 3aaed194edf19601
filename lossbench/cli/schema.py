"""`lossbench schema`: the suite format as a JSON Schema."""

from __future__ import annotations

from typing import Annotated

from lossbench.cli.arguments import Option
from lossbench.cli.common import PluginOption, print_json, registries


def schema(
    plugin: PluginOption = None,
    shipped: Annotated[
        bool, Option("--shipped", help="Without losses, backbones and datasets of other packages.", show_default=False)
    ] = False,
) -> None:
    """Write the suite format as a JSON Schema (draft 2020-12), for editors to complete and check suites with.

    With help for the losses, backbones and datasets of lossbench, of installed packages and of --plugin. Name the file
    in the first line of a suite: # yaml-language-server: $schema=suite.schema.json

    \b
    Example:
      lossbench schema --plugin my_loss.py > suite.schema.json
    """
    from lossbench import json_schema

    mine = [each for registry in registries(plugin).values() for each in registry]
    print_json(json_schema.suite_schema(json_schema.shipped() if shipped else mine))
