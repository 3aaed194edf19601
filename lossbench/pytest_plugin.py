"""Lets pytest check plugins by the rules of `lossbench.conformance`, each rule a test:

    pytest --pyargs lossbench.conformance --loss my_pkg.my_loss --param gamma=3

pytest loads this module in every run (an entry point), and that is all it costs: the options exist, and anything
else is imported, only where `lossbench.conformance` is among the arguments. So they clash with nobody's options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lossbench.registry import Kind

_PACKAGE = "lossbench.conformance"
_KINDS: tuple[Kind, ...] = ("loss", "backbone", "dataset")
#: Where the plugins under test are kept: [(id, subject)].
SUBJECTS = pytest.StashKey[list[tuple[str, Any]]]()


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Called before the command line is read for good: options may still be added."""
    if any(str(argument).partition("::")[0].rstrip(".") == _PACKAGE for argument in args):
        early_config.pluginmanager.register(_Options(), "lossbench-conformance")


class _Options:
    def pytest_addoption(self, parser: pytest.Parser) -> None:
        group = parser.getgroup("lossbench", "lossbench.conformance")
        for kind in _KINDS:
            group.addoption(
                f"--{kind}",
                action="append",
                default=[],
                metavar="TARGET",
                help=f"check this {kind}: a name, a file, a module, or module.name; may be repeated",
            )
        group.addoption(
            "--param",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a parameter of what is checked, as YAML; may be repeated",
        )
        group.addoption("--data-root", metavar="FOLDER", help="where datasets lie")

    def pytest_configure(self, config: pytest.Config) -> None:
        from lossbench.errors import LossbenchError

        if config.option.help:
            return
        try:
            found = _subjects(config)
        except LossbenchError as error:
            hint = f"\nhint: {error.hint}" if error.hint else ""
            raise pytest.UsageError(f"{error.message}{hint}") from None
        if not found:
            raise pytest.UsageError("what shall be checked? Give --loss, --backbone or --dataset")
        config.stash[SUBJECTS] = found


def _subjects(config: pytest.Config) -> list[tuple[str, Any]]:
    from pathlib import Path

    from lossbench.conformance import subject
    from lossbench.conformance.targets import find, parse_params

    params = parse_params(config.getoption("param"))
    root = config.getoption("data_root")
    found = []
    for kind in _KINDS:
        for target in config.getoption(kind):
            for plugin in find(target, kind=kind):
                plugin.resolve(params)
                made = subject(plugin, params, data_root=Path(root) if root else None)
                found.append((f"{kind}-{plugin.name}", made))
    return found
