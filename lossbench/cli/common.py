"""What the verbs share: options, consoles, JSON output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Argument, Option
from lossbench.errors import ConfigError, UnknownNameError, did_you_mean
from lossbench.registry import Kind, Registry, all_registries

if TYPE_CHECKING:
    from rich.console import Console

    from lossbench.standings import Block
    from lossbench.store import Store

ResultsOption = Annotated[
    Path,
    Option(
        "--results",
        metavar="FOLDER",
        help="Where records and runs lie.",
        show_default=True,
        envvar="LOSSBENCH_RESULTS",
        show_envvar=False,
    ),
]
DataRootOption = Annotated[
    Path | None,
    Option(
        "--data-root",
        metavar="FOLDER",
        help="Folder with a folder for each dataset. Default: the variable LOSSBENCH_DATA, else the platform's.",
        show_default=False,
    ),
]
DatasetGlob = Annotated[str, Option(help="Only datasets that match this glob.", show_default=False)]
BackboneGlob = Annotated[str, Option(help="Only backbones that match this glob.", show_default=False)]
LossGlob = Annotated[
    str, Option(help="Only losses that match this glob; several: a|b. a(): a at its defaults.", show_default=False)
]
PluginOption = Annotated[
    list[Path] | None,
    Option(
        "--plugin",
        metavar="FILE",
        help="Python file with losses, backbones or datasets of your own. May be repeated.",
        show_default=False,
    ),
]
FreshOption = Annotated[bool, Option("--fresh", help="Leave out runs made by other code than is here now.")]
JsonOption = Annotated[bool, Option("--json", help="Write JSON.", show_default=False)]
SuiteArgument = Annotated[str, Argument(metavar="SUITE", help="A YAML file, or the name of a suite (see list suites).")]
DEFAULT_RESULTS = Path("results")
#: Of `--versus`.
DEFAULT_REFERENCE = "ce"


def stdout() -> Console:
    """For data. Made anew each time, so that redirection and NO_COLOR are those of now."""
    from rich.console import Console  # only where something is drawn: rich takes longer than most verbs

    return Console(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """For progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def warn(message: str) -> None:
    from rich.text import Text

    stderr().print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def print_json(data: Any) -> None:
    """Plain JSON on stdout, never wrapped or coloured; paths as text, NaN and infinities as null."""
    text = json.dumps(_finite(data), indent=2, ensure_ascii=False, default=str, allow_nan=False)
    sys.stdout.write(text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def open_store(results: Path) -> Store:
    """The store of a results folder, with its index in the cache."""
    from lossbench.data.roots import cache_root
    from lossbench.store import Store

    return Store(results, cache_root())


def registries(plugins: Sequence[Path] | None) -> dict[Kind, Registry]:
    """The three registries, with the files of `--plugin`."""
    return all_registries(plugins or ())


def choose(given: str, known: Iterable[str], what: str) -> str:
    """`given` if it is one of `known`. Raises UnknownNameError with the nearest."""
    options = list(known)
    if given in options:
        return given
    raise UnknownNameError(
        f"unknown {what} '{given}'", hint=did_you_mean(given, options) or f"one of: {', '.join(options)}"
    )


def require_reference(blocks: Sequence[Block], reference: str) -> None:
    """Raises ConfigError when a reference that was asked for is in none of the blocks, or is several rows in all that
    have it: no difference could be shown. The default may be missing: then blocks say so themselves."""
    if reference == DEFAULT_REFERENCE or not blocks or any(block.has_reference for block in blocks):
        return
    rows = [row for block in blocks for row in (*block.rows, *block.hidden)]
    settings = sorted({row.label for row in rows if row.loss["name"] == reference})
    if settings:
        some = ", ".join(f"'{label}'" for label in settings[:4]) + (", ..." if len(settings) > 4 else "")
        raise ConfigError(f"several rows are '{reference}'", hint=f"name one: {some}")
    names = {name for row in rows for name in (row.label, str(row.loss["name"]))}
    raise ConfigError(
        f"no run of the reference '{reference}'",
        hint=did_you_mean(reference, names) or "`lossbench leaderboard` shows what there is",
    )


def literal(value: Any) -> str:
    """A parameter's value as a suite would say it: true, null, [1, 2], text without quotes."""
    return value if isinstance(value, str) and value else json.dumps(value, default=str, ensure_ascii=False)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`, `2 d 5 h`: two figures are as much as an estimate is worth."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def describe_params(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A plugin's parameters as JSON: name, type, and default where there is one."""
    return [
        {"name": param.name, "type": param.type_name, "required": param.required}
        | ({} if param.required else {"default": param.default})
        for param in params.values()
    ]
