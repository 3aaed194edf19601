"""`lossbench show`: everything about one loss, backbone, dataset or record."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    DataRootOption,
    JsonOption,
    PluginOption,
    ResultsOption,
    choose,
    literal,
    print_json,
    registries,
    stderr,
    stdout,
)
from lossbench.cli.list import plugin_json
from lossbench.errors import ConfigError, DataError, ParameterError, UnknownNameError, did_you_mean
from lossbench.registry import KINDS, Kind, Plugin, Registry

if TYPE_CHECKING:
    from lossbench.datasets.base import SegmentationDataset

_WHAT = (*KINDS, "record")
_ID = re.compile(r"[0-9a-f]{4,16}\Z")
_FILE = re.compile(r"-s\d+-([0-9a-f]{16})(?:\.json|\.npz)?\Z")


def show(
    what: Annotated[
        str, Argument(metavar="WHAT", help="loss, backbone, dataset or record; or a name, when only one has it.")
    ],
    name: Annotated[
        str | None, Argument(metavar="NAME", help="Its name; of a record its id or file.", show_default=False)
    ] = None,
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    suite: Annotated[bool, Option("--suite", help="Of a record: the suite that repeats it, as YAML.")] = False,
    json: JsonOption = False,
) -> None:
    """Show a loss, a backbone, a dataset or a record.

    A loss: what it computes, its parameters, its file. A dataset: licence, how to get it, classes and, where the
    data is there, class shares and the imbalance ratio of each split. A record: its metrics and provenance.

    \b
    Example:
      lossbench show loss cdfl
      lossbench show 56309b4c --suite > again.yaml
    """
    what, name = _id_in(what), name and _id_in(name)
    known = registries(plugin)
    kind = choose(what, _WHAT, "kind of thing to show") if name is not None else _kind_of(what, known)
    if suite:
        if kind != "record" or json:
            raise ConfigError("--suite is of a record, and is YAML", hint="lossbench show ID --suite")
        _show_suite(name or what, results)
        return
    if kind == "record":
        _show_record(name or what, results, known, json)
        return
    shown = known[kind].get(name or what)  # type: ignore[index]
    if kind == "dataset":
        _show_dataset(shown, data_root, json)
    elif json:
        print_json(plugin_json(shown) | {"description": description(shown)})
    else:
        _print_plugin(shown)


def _id_in(name: str) -> str:
    """The id in the name of a record's file, which `verify` prints; any other name as it is."""
    found = _FILE.search(name)
    return found[1] if found else name


def _kind_of(name: str, known: Mapping[Kind, Registry]) -> Kind | str:
    """What a bare name is."""
    found = [kind for kind in KINDS if name in known[kind]]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"'{name}' is a {' and a '.join(found)}", hint=f"say which, e.g. lossbench show {found[0]} {name}"
        )
    if _ID.match(name):
        return "record"
    if name in _WHAT:
        raise ConfigError(f"which {name}?", hint=f"lossbench show {name} NAME")
    names = [plugin.name for registry in known.values() for plugin in registry]
    raise UnknownNameError(
        f"no loss, backbone or dataset is called '{name}'",
        hint=did_you_mean(name, names) or "lossbench list losses (backbones, datasets) shows the names",
    )


def _show_record(record_id: str, results: Path, known: Mapping[Kind, Registry], json: bool) -> None:
    import sys

    from lossbench.provenance import stale_reasons
    from lossbench.store import Store
    from lossbench.views.record import render

    stored = Store(results).find(record_id)
    if json:
        sys.stdout.write(stored.record.to_json())
        return
    render(stored.record, stdout(), per_image=stored.per_image, stale=stale_reasons(stored.record, known))


def _show_suite(record_id: str, results: Path) -> None:
    import sys

    from lossbench.onecell import suite_of
    from lossbench.store import Store

    sys.stdout.write(suite_of(Store(results).find(record_id).record))


# --- plugins ---


def description(plugin: Plugin) -> str:
    """The docstring of a plugin, from its syntax tree: nothing is imported."""
    tree = ast.parse(plugin.file.read_text(encoding="utf-8"), filename=str(plugin.file))
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == plugin.attribute:
            return ast.get_docstring(node) or ""
    return ""


def _print_plugin(plugin: Plugin) -> None:
    from rich.table import Table

    out = stdout()
    out.print(f"{plugin.kind} {plugin.name}", style="bold")
    _print_text(description(plugin) or "(no description)")
    if plugin.params:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for heading in ("parameter", "type", "default"):
            table.add_column(heading, overflow="fold")
        for param in plugin.params.values():
            table.add_row(param.name, param.type_name, "required" if param.required else literal(param.default))
        out.print()
        out.print(table)
    out.print()
    facts = ", ".join(sorted(plugin.facts)) or "nothing"
    out.print(f"filled in by lossbench: {facts}", soft_wrap=True)
    out.print(f"file: {plugin.where}", soft_wrap=True)


def _print_text(text: str) -> None:
    """A docstring, filled to the width of the terminal."""
    out = stdout()
    for line in fill_docstring(text, min(out.width, 100)):
        out.print(line, soft_wrap=True)


def fill_docstring(text: str, width: int) -> list[str]:
    """Lines of a docstring refilled: sentences of a paragraph flow together, items (`name: ...`, `- ...`) hang, and
    what is indented below a line that ends with `::` stays as it is."""
    filled: list[str] = [""]
    paragraph: list[str] = []
    verbatim_below: int | None = None

    def flush() -> None:
        if paragraph:
            indent = _indent(paragraph[0])
            hanging = indent + 4 if _ITEM.match(paragraph[0]) else indent
            filled.extend(
                textwrap.wrap(
                    " ".join(line.strip() for line in paragraph),
                    width,
                    initial_indent=" " * indent,
                    subsequent_indent=" " * hanging,
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
            paragraph.clear()

    for line in text.strip("\n").splitlines():
        if verbatim_below is not None:
            if not line.strip() or _indent(line) > verbatim_below:
                filled.append(line.rstrip())
                continue
            verbatim_below = None
        if not line.strip():
            flush()
            filled.append("")
            continue
        if paragraph and not _continues(paragraph, line):
            flush()
        paragraph.append(line)
        if line.rstrip().endswith("::"):
            verbatim_below = _indent(line)
            flush()
    flush()
    return filled


#: `name: ...` of an Args section, or a list item.
_ITEM = re.compile(r"\s+[*\w, ]+: |\s*[-*] ")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _continues(paragraph: list[str], line: str) -> bool:
    """Whether a line belongs to the paragraph above it."""
    if _ITEM.match(paragraph[0]):
        return _indent(line) > _indent(paragraph[0])
    if _ITEM.match(line) or paragraph[-1].rstrip().endswith(":"):
        return False
    return _indent(line) == _indent(paragraph[-1])


# --- datasets ---


def _show_dataset(plugin: Plugin, data_root: Path | None, json: bool) -> None:
    dataset, folder, absent = _build(plugin, data_root)
    if dataset is None:
        shares: dict[str, Any] = {}
    else:
        shares, absent = _class_counts(dataset)
    facts = {
        "licence": getattr(plugin.load(), "licence", ""),
        "how_to_get": getattr(plugin.load(), "how_to_get", ""),
        "homepage": getattr(plugin.load(), "homepage", ""),
        "expected_at": str(folder) if folder else None,
        "classes": list(dataset.class_names) if dataset else [],
        "splits": shares,
        "not_read": absent,
    }
    if json:
        print_json(plugin_json(plugin) | {"description": description(plugin)} | facts)
        return
    _print_plugin(plugin)
    out = stdout()
    for label in ("licence", "homepage", "how_to_get", "expected_at"):
        if facts[label]:
            out.print(f"{label.replace('_', ' ')}: {facts[label]}", soft_wrap=True)
    if dataset is not None:
        out.print(f"classes: {dataset.num_classes}, ignored label: {dataset.ignore_index}")
        if shares:
            out.print()
            _print_shares(dataset.class_names, shares)
        else:
            out.print(", ".join(dataset.class_names))
    if absent:
        out.print()
        out.print(f"not read: {absent}", soft_wrap=True)


def _build(plugin: Plugin, data_root: Path | None) -> tuple[SegmentationDataset | None, Path | None, str | None]:
    """(the dataset, where it is expected, why it cannot be built)."""
    from lossbench.data.roots import data_root as resolve
    from lossbench.data.roots import dataset_root

    folder = dataset_root(resolve(data_root), plugin.name) if "root" in plugin.facts else None
    try:
        return plugin.build({}, root=folder), folder, None
    except ParameterError as error:  # e.g. `folder`: it is what a suite makes of it
        return None, folder, error.message
    except DataError as error:
        return None, folder, error.message


def _class_counts(dataset: SegmentationDataset) -> tuple[dict[str, Any], str | None]:
    """Images and labelled pixels by class of every split that is there, and why the first other one is not."""
    from lossbench.data.cache import open_split
    from lossbench.data.roots import cache_root

    found: dict[str, Any] = {}
    absent = None
    for split in dataset.splits:
        try:
            stderr().print(f"reading {split} ...", style="dim")
            counts = [int(n) for n in open_split(dataset, split, cache_root=cache_root()).class_counts]
            present = [count for count in counts if count]
            found[split] = {
                "images": len(dataset.names(split)),
                "class_pixels": counts,
                "imbalance_ratio": max(present) / min(present) if present else None,
                "absent_classes": [dataset.class_names[i] for i, count in enumerate(counts) if not count],
            }
        except DataError as error:
            absent = absent or f"{split}: {error.message}"
    return found, absent


def _print_shares(class_names: Sequence[str], splits: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("class", overflow="fold")
    for split in splits:
        table.add_column(f"{split} %", justify="right")
    for index, name in enumerate(class_names):
        row = []
        for facts in splits.values():
            total = sum(facts["class_pixels"])
            share = 100 * facts["class_pixels"][index] / total if total else 0.0
            row.append(f"{share:.2f}" if share >= 0.01 or not share else f"{share:.1g}")
        table.add_row(name, *row)
    table.add_section()
    table.add_row("images", *(str(facts["images"]) for facts in splits.values()))
    ratios = (facts["imbalance_ratio"] for facts in splits.values())
    table.add_row("commonest : rarest", *("-" if ratio is None else f"{ratio:.0f} : 1" for ratio in ratios))
    stdout().print(table)
