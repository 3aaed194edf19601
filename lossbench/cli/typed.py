"""The command line as Typer reads it: the help of the verbs, every form of an option, and what is wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any, get_args

import typer

import lossbench
from lossbench.cli.arguments import Argument, Option, is_declared
from lossbench.errors import ConfigError

#: Typer's usage errors derive from this class, which it does not export.
_UsageProblem: type[Exception] = typer.BadParameter.__mro__[2]


def dispatch(arguments: Sequence[str], verbs: Sequence[tuple[str, Callable[..., Any]]], verb: str | None) -> int:
    """Run a command line with these verbs; returns the exit code. Raises ConfigError on wrong usage and
    KeyboardInterrupt."""
    command = typer.main.get_command(_app(verbs))
    try:
        outcome = command.main(args=list(arguments), prog_name="lossbench", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _UsageProblem as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        raise ConfigError(message.rstrip("."), hint=f"see `lossbench{' ' + verb if verb else ''} --help`") from error
    return outcome if isinstance(outcome, int) else 0


def _app(verbs: Sequence[tuple[str, Callable[..., Any]]]) -> typer.Typer:
    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.callback(
        invoke_without_command=True,
        help="A benchmark harness for imbalance losses in semantic segmentation.",
        epilog="Example: lossbench run quickstart && lossbench leaderboard",
    )(_root)
    for name, function in verbs:
        app.command(name)(with_typer(function))
    return app


def with_typer(function: Callable[..., Any]) -> Callable[..., Any]:
    """A verb whose declarations (see arguments.py) are Typer's own; those that are already stay as they are."""

    @wraps(function)
    def verb(**given: Any) -> Any:
        return function(**given)

    del verb.__wrapped__
    parameters = [
        parameter.replace(annotation=_translated(parameter.annotation))
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
    ]
    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return verb


def _translated(annotation: Any) -> Any:
    if not is_declared(annotation):
        return annotation
    kind, *items = get_args(annotation)
    (declared,) = [item for item in items if isinstance(item, Option | Argument)]
    if isinstance(declared, Option):
        return Annotated[kind, typer.Option(*declared.names, **declared.more)]
    return Annotated[kind, typer.Argument(**declared.more)]


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
