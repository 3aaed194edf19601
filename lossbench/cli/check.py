"""`lossbench check`: whether a loss, a backbone or a dataset keeps its contract, and what a loss is like."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import DataRootOption, JsonOption, PluginOption, print_json, stderr, stdout, warn
from lossbench.errors import ConfigError, UnknownNameError, did_you_mean
from lossbench.registry import KINDS, Plugin

if TYPE_CHECKING:
    from lossbench.conformance.losses.card import LossCard
    from lossbench.conformance.report import Result


def check(
    target: Annotated[
        str,
        Argument(
            metavar="TARGET",
            help="A name, a Python file, or an installed module or package; or loss, backbone or dataset, and a NAME.",
        ),
    ],
    name: Annotated[str | None, Argument(metavar="NAME", help="Only this one of several.", show_default=False)] = None,
    param: Annotated[
        list[str] | None,
        Option("--param", metavar="NAME=VALUE", help="A parameter, as YAML. May be repeated.", show_default=False),
    ] = None,
    no_timing: Annotated[bool, Option("--no-timing", help="Leave out milliseconds and memory of a loss.")] = False,
    verbose: Annotated[bool, Option("--verbose", help="Print of every rule what was fed, got and expected.")] = False,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> int:
    """Check that a loss, a backbone or a dataset keeps its contract.

    Prints each rule with what was fed and what came back, and every failure in full; of a loss also its card: value
    and gradient beside cross-entropy's on an untrained and on a trained network, milliseconds and memory beside
    F.cross_entropy's, what it needs, absent classes, dtypes. Of a dataset it loads a few images of each split
    (`lossbench data check` loads all). Exit code 0: every rule holds, 1: some rule fails, 2: wrong usage.

    \b
    Example:
      lossbench check my_loss.py --param gamma=3
      lossbench check sum --param 'terms=[{name: ce}, {name: dice, weight: 0.5}]'
    """
    plugins = _plugins(target, name, plugin or [])
    from lossbench.conformance.targets import parse_params

    params = parse_params(param or [])
    if params and len(plugins) > 1:
        names = ", ".join(found.name for found in plugins)
        raise ConfigError(f"which of {names} do the parameters belong to?", hint="give its NAME after the file")
    for found in plugins:  # a parameter that is wrong is found before anything is run
        with _contained():
            _resolve(found, params)
    reports = []
    for number, found in enumerate(plugins):
        with _contained():
            results, card = _check(found, params, data_root, timing=not no_timing)
        reports.append(_as_json(found, params, results, card))
        if not json:
            if number:
                stdout().print()
            _print(found, results, card, verbose)
    if json:
        print_json(reports[0] if len(reports) == 1 else reports)
    return 0 if all(report["ok"] for report in reports) else 1


def _plugins(target: str, name: str | None, files: list[Path]) -> list[Plugin]:
    from lossbench.conformance.targets import find

    if target in KINDS and name is not None:
        return find(name, kind=target, plugins=files)
    if target in KINDS and not Path(target).exists():
        raise ConfigError(f"which {target}?", hint=f"lossbench check {target} NAME")
    found = find(target, plugins=files)
    if name is None:
        return found
    known = [plugin.name for plugin in found]
    if name not in known:
        hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
        raise UnknownNameError(f"{target} has no '{name}'", hint=hint)
    return [plugin for plugin in found if plugin.name == name]


@contextmanager
def _contained() -> Iterator[None]:
    """What a plugin prints goes to stderr, and what it does to global state is undone."""
    from lossbench.conformance.surroundings import preserved

    with redirect_stdout(sys.stderr), preserved():
        yield


def _resolve(plugin: Plugin, params: dict[str, Any]) -> None:
    missing = [param for param in plugin.params.values() if param.required and param.name not in params]
    if missing:
        value = "[{name: ce}, {name: dice, weight: 0.5}]" if missing[0].takes_terms else "..."
        raise ConfigError(
            f"{plugin.kind} '{plugin.name}' needs a value for '{missing[0].name}' ({missing[0].type_name})",
            hint=f"--param '{missing[0].name}={value}'",
        )
    plugin.resolve(params)


def _check(
    plugin: Plugin, params: dict[str, Any], data_root: Path | None, *, timing: bool
) -> tuple[list[Result], LossCard | None]:
    from lossbench.conformance import judge, rules, subject

    console = stderr()
    with console.status("", spinner="line") as status:  # nothing where stderr is no terminal
        under_test = subject(plugin, params, data_root=data_root)
        results = []
        for rule in rules(plugin.kind):
            status.update(f"{plugin.name}: {rule}")
            results.append(judge(under_test, rule))
        if plugin.kind != "loss":
            return results, None
        from lossbench.conformance.losses.card import loss_card
        from lossbench.conformance.losses.cost import costs
        from lossbench.conformance.losses.subject import LossSubject
        from lossbench.conformance.report import one_line

        loss = LossSubject(plugin, params)
        if not loss.runs():
            return results, None
        status.update(f"{plugin.name}: card")
        timed = []
        if timing:
            try:
                timed = costs(loss, lambda text: status.update(f"{plugin.name}: {text}"))
            except (Exception, SystemExit) as error:  # at these sizes; its rules are told all the same
                warn(f"{plugin.name} is not timed: {one_line(error)}")
        return results, loss_card(loss, timed)


def _as_json(plugin: Plugin, params: dict[str, Any], results: list[Result], card: LossCard | None) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "file": str(plugin.file),
        "line": plugin.line,
        "parameters": params,
        "ok": all(result.ok for result in results),
        "rules": [asdict(result) for result in results],
        "card": card.to_json() if card is not None else None,
    }


def _print(plugin: Plugin, results: list[Result], card: LossCard | None, verbose: bool) -> None:
    from lossbench.views.checks import render_card, render_results

    out = stdout()
    out.print(f"{plugin.kind} {plugin.name}", style="bold", end="  ")
    out.print(f"({plugin.where})", soft_wrap=True)
    render_results(results, out, verbose=verbose)
    out.print()
    failed = [result.rule for result in results if not result.ok]
    skipped = sum(result.skipped_reason is not None for result in results)
    said = [f"{len(results) - len(failed) - skipped} of {len(results)} rules pass"]
    said += [f"{skipped} do not apply"] * bool(skipped) + [f"{len(failed)} FAIL: {', '.join(failed)}"] * bool(failed)
    out.print(", ".join(said) + " (--verbose shows all)" * (not verbose), soft_wrap=True)
    if card is not None:
        out.print()
        out.print("loss card", style="bold")
        render_card(card, out)
