"""The command line's entry point: finds the verb, runs it, and turns errors into one line and an exit code.

Exit codes: 0 all is well, 1 some cells failed, 2 wrong usage or configuration, 3 the machine lacks something,
130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

import lossbench
from lossbench.cli.common import stderr
from lossbench.errors import LossbenchError, UnknownNameError, did_you_mean

#: Every verb and the function behind it, in the order of the help. A module is imported when its verb is called,
#: all of them for the help; so they import what is heavy inside their functions.
VERBS: tuple[tuple[str, str], ...] = (
    ("run", "lossbench.cli.run:run"),
    ("plan", "lossbench.cli.plan:plan"),
    ("status", "lossbench.cli.status:status"),
    ("leaderboard", "lossbench.cli.leaderboard:leaderboard"),
    ("list", "lossbench.cli.list:list_"),
    ("show", "lossbench.cli.show:show"),
    ("data", "lossbench.cli.data:data"),
    ("clean", "lossbench.cli.clean:clean"),
)
#: Typer's usage errors derive from this class, which it does not export.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]
_BROKEN_PIPE = 128 + 13


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code (SystemExit)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    given = list(arguments)
    debug = "--debug" in given  # accepted before and after the verb
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (head, less) has gone. Point stdout elsewhere, or the interpreter complains when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        _report("interrupted", None)
        return 130
    except LossbenchError as error:
        if debug:
            traceback.print_exc()
        _report(error.message, error.hint)
        return error.exit_code
    except _UsageProblem as error:
        if debug:
            traceback.print_exc()
        message: str = error.format_message()  # type: ignore[attr-defined]
        verb = _verb_of(given)
        _report(message.rstrip("."), f"see `lossbench{' ' + verb if verb else ''} --help`")
        return 2


def _dispatch(arguments: list[str]) -> int:
    verb = _verb_of(arguments)
    known = [name for name, _ in VERBS]
    if verb is not None and verb not in known:
        raise UnknownNameError(
            f"unknown command '{verb}'", hint=did_you_mean(verb, known) or f"one of: {', '.join(known)}"
        )
    command = typer.main.get_command(_app(verb))
    outcome = command.main(args=arguments, prog_name="lossbench", standalone_mode=False)
    return outcome if isinstance(outcome, int) else 0


def _verb_of(arguments: Sequence[str]) -> str | None:
    """The first word: no option before the verb takes a value. None when the help of all verbs is asked for."""
    for argument in arguments:
        if argument in ("-h", "--help"):
            return None
        if not argument.startswith("-"):
            return argument
    return None


def _app(verb: str | None) -> typer.Typer:
    """The Typer application with one verb, or with all of them for the help."""
    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.callback(
        invoke_without_command=True,
        help="A benchmark harness for imbalance losses in semantic segmentation.",
        epilog="Example: lossbench run quickstart && lossbench leaderboard",
    )(_root)
    for name, target in VERBS:
        if verb in (None, name):
            app.command(name)(_load(target))
    return app


def _load(target: str) -> Callable[..., Any]:
    module, _, function = target.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lossbench {lossbench.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _report(message: str, hint: str | None) -> None:
    console = stderr()
    for line in message.splitlines():
        console.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "cyan"), hint), soft_wrap=True)
