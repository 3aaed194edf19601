"""The command line's entry point: finds the verb, runs it, and turns errors into one line and an exit code.

Exit codes: 0 all is well, 1 some cells failed (audit: some scores cannot be; merge: some records could not be taken;
verify, submit: some records are not in order), 2
wrong usage or configuration, 3 the machine lacks something, 130 interrupted.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import lossbench
from lossbench.cli.arguments import parse
from lossbench.errors import LossbenchError, UnknownNameError, did_you_mean

#: Every verb and the function behind it, in the order of the help. A module is imported when its verb is called.
VERBS: tuple[tuple[str, str], ...] = (
    ("run", "lossbench.cli.run:run"),
    ("plan", "lossbench.cli.plan:plan"),
    ("status", "lossbench.cli.status:status"),
    ("cancel", "lossbench.cli.cancel:cancel"),
    ("leaderboard", "lossbench.cli.leaderboard:leaderboard"),
    ("compare", "lossbench.cli.compare:compare"),
    ("ranks", "lossbench.cli.ranks:ranks"),
    ("advise", "lossbench.cli.advise:advise"),
    ("report", "lossbench.cli.report:report"),
    ("tuning", "lossbench.cli.tuning:tuning"),
    ("merge", "lossbench.cli.merge:merge"),
    ("verify", "lossbench.cli.verify:verify"),
    ("submit", "lossbench.cli.submit:submit"),
    ("audit", "lossbench.cli.audit:audit"),
    ("diagnostics", "lossbench.cli.diagnostics:diagnostics"),
    ("figure", "lossbench.cli.figure:figure"),
    ("list", "lossbench.cli.list:list_"),
    ("show", "lossbench.cli.show:show"),
    ("schema", "lossbench.cli.schema:schema"),
    ("new", "lossbench.cli.new:new"),
    ("check", "lossbench.cli.check:check"),
    ("predict", "lossbench.cli.predict:predict"),
    ("data", "lossbench.cli.data:data"),
    ("clean", "lossbench.cli.clean:clean"),
)
#: What the help of all says of each, short enough for 80 columns; the verb's own help says more.
SUMMARIES = {
    "run": "Run every cell of a suite that has no record yet.",
    "plan": "Show what a run would do, and how long it will take.",
    "status": "Show what became of every cell of a suite.",
    "cancel": "Take the cells of a suite back from a cluster.",
    "leaderboard": "Compare losses: mean, spread, difference to the reference.",
    "compare": "Compare two losses by class, or two folders by cell.",
    "ranks": "Rank losses over several datasets and backbones.",
    "advise": "Say which losses are worth trying on a dataset.",
    "report": "Write the leaderboards as a folder of web pages.",
    "tuning": "Show the trials of equal tuning, and what was chosen.",
    "merge": "Bring the records of several results folders together.",
    "verify": "Check records that anybody may have made.",
    "submit": "Make new records ready for a pull request.",
    "audit": "Check scores, of any table, for arithmetic that cannot be.",
    "diagnostics": "Show what losses logged of themselves over training.",
    "figure": "Draw panels, class scores, curves or a sweep for a paper.",
    "list": "List losses, backbones, datasets or suites.",
    "show": "Show a loss, a backbone, a dataset or a record.",
    "schema": "Write the suite format as a JSON Schema, for editors.",
    "new": "Write a loss, a backbone or a dataset to start from.",
    "check": "Check a loss, a backbone or a dataset by its rules.",
    "predict": "Write the label maps that a trained cell predicts.",
    "data": "Say where data is expected and how to get it; check it.",
    "clean": "Remove run folders of finished cells.",
}
_HELP = """\
Usage: lossbench [OPTIONS] COMMAND [ARGS]...

  A benchmark harness for imbalance losses in semantic segmentation.

Options:
  --version   Print the version.
  --debug     Show the traceback of an error.
  -h, --help  Show this message and exit.

Commands:
{commands}

  Example: lossbench run quickstart && lossbench leaderboard
"""
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
    except KeyboardInterrupt:
        _report("interrupted", None)
        return 130
    except LossbenchError as error:
        if debug:
            import traceback

            traceback.print_exc()
        _report(error.message, error.hint)
        return error.exit_code


def _dispatch(arguments: list[str]) -> int:
    verb = _verb_of(arguments)
    targets = dict(VERBS)
    if verb is None:
        if not arguments or "-h" in arguments or "--help" in arguments:
            sys.stdout.write(_help())
            return 0
        if arguments == ["--version"]:
            sys.stdout.write(f"lossbench {lossbench.__version__}\n")
            return 0
    elif verb not in targets:
        raise UnknownNameError(
            f"unknown command '{verb}'", hint=did_you_mean(verb, targets) or f"one of: {', '.join(targets)}"
        )
    verbs = [(name, _load(target)) for name, target in VERBS if verb in (None, name)]
    if verb is not None and arguments[0] == verb:
        ((_, function),) = verbs
        plain = parse(function, arguments[1:])
        if plain is not None:
            gc.disable()  # these verbs read, print and leave: collecting would be a tenth of their time
            try:
                outcome = function(**plain)
            finally:
                gc.enable()
            return outcome if isinstance(outcome, int) else 0
    from lossbench.cli.typed import dispatch

    return dispatch(arguments, verbs, verb)


def _verb_of(arguments: Sequence[str]) -> str | None:
    """The first word: no option before the verb takes a value. None when the help of all verbs is asked for."""
    for argument in arguments:
        if argument in ("-h", "--help"):
            return None
        if not argument.startswith("-"):
            return argument
    return None


def _help() -> str:
    width = max(len(name) for name, _ in VERBS)
    return _HELP.format(commands="\n".join(f"  {name:<{width}}  {SUMMARIES[name]}" for name, _ in VERBS))


def _load(target: str) -> Callable[..., Any]:
    module, _, function = target.partition(":")
    loaded: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return loaded


def _report(message: str, hint: str | None) -> None:
    from rich.text import Text

    from lossbench.cli.common import stderr

    console = stderr()
    for line in message.splitlines():
        console.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)
    if hint:
        console.print(Text.assemble(("hint: ", "cyan"), hint), soft_wrap=True)
