"""What a registered loss, backbone or dataset must pass: one implementation for `lossbench check`, for the tests, and
for the tests of packages of your own (`pytest --pyargs lossbench.conformance --loss my_pkg.my_loss`).

    from lossbench.registry import Registry
    for result in check(Registry("loss").get("focal"), gamma=3.0):
        print(result)

A rule says what it fed, what it got and what it expected. A plugin for which a rule makes no sense (a boundary loss and
`pixel_permutation`, say) declares so, with the reason, in a class attribute
`conformance_exceptions: ClassVar[dict[str, str]]`, {rule: reason}; the reason is shown in place of a verdict. One
without a reason, to no rule, or to a rule that training and records rely on (`no_exceptions`) fails `contract`.
"""

from __future__ import annotations

import importlib
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from lossbench.errors import ConfigError, LossbenchError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from lossbench.conformance.report import Result as Result
    from lossbench.conformance.report import Rule, Subject
    from lossbench.registry import Kind, Plugin

__all__ = ["check", "check_rule", "judge", "no_exceptions", "rules", "subject"]


@cache
def rules(kind: Kind) -> Mapping[str, Rule]:
    """Every rule for a kind of plugin by name, in the order of a report. A rule's docstring says what it requires."""
    return {rule.__name__: rule for rule in _module(kind).RULES}


def no_exceptions(kind: Kind) -> frozenset[str]:
    """The rules that every plugin of a kind must pass: an exception to one of them is refused."""
    found: frozenset[str] = _module(kind).NO_EXCEPTIONS
    return found


def _module(kind: Kind) -> ModuleType:
    # Imported only now: collecting the tests of this package, say, needs no torch.
    return importlib.import_module(f"{__name__}.{'losses' if kind == 'loss' else f'{kind}s'}")


def check(plugin: Plugin, /, *, data_root: Path | None = None, **params: Any) -> list[Result]:
    """Try a plugin against every rule of its kind.

    Args:
        plugin: e.g. from `Registry("loss").get(name)`.
        data_root: where datasets lie, for a dataset that reads files; see `lossbench.data.roots`.
        params: its hyper-parameters; defaults where not given. A loss's list-valued one holds a value per class.

    Raises:
        LossbenchError: the parameters do not fit (unknown, missing, out of range), its file does not import, or a
            dataset's data is not there.
    """
    under_test = subject(plugin, params, data_root=data_root)
    return [judge(under_test, rule) for rule in rules(plugin.kind)]


def check_rule(plugin: Plugin, rule: str, /, *, data_root: Path | None = None, **params: Any) -> Result:
    """Try a plugin against one rule.

    Raises:
        LossbenchError: as `check`; ConfigError for an unknown rule.
    """
    return judge(subject(plugin, params, data_root=data_root), rule)


def subject(plugin: Plugin, params: Mapping[str, Any], *, data_root: Path | None = None) -> Subject:
    """The plugin under test, for `judge`: what is costly to build is built once for all rules."""
    if plugin.kind == "loss":
        from lossbench.conformance.losses.subject import LossSubject

        return LossSubject(plugin, params)
    if plugin.kind == "backbone":
        from lossbench.conformance.backbones.subject import BackboneSubject

        return BackboneSubject(plugin, params)
    from lossbench.conformance.datasets.subject import DatasetSubject

    return DatasetSubject(plugin, params, data_root)


def judge(under_test: Subject, rule: str) -> Result:
    """The verdict of one rule, which leaves global state as it was. Raises as `check_rule`."""
    from lossbench.conformance.report import Broken, Result, Skip, one_line, sort_exceptions
    from lossbench.conformance.surroundings import preserved

    plugin = under_test.plugin
    known = rules(plugin.kind)
    if rule not in known:
        raise ConfigError(f"unknown rule '{rule}'", hint=did_you_mean(rule, known) or f"known: {', '.join(known)}")
    try:
        with preserved():
            declared = under_test.exceptions
    except LossbenchError:
        raise
    except Broken as broken:
        return Result(rule, False, "the constructor", broken.got, broken.expected)
    except (Exception, SystemExit) as error:  # whatever a constructor may raise is the finding
        return Result(rule, False, "the constructor", one_line(error), f"a {plugin.kind} is built")
    granted, refused = sort_exceptions(declared, known, no_exceptions(plugin.kind))
    if rule in granted:
        return Result(rule, True, "", "", "", skipped_reason=granted[rule])

    checked: list[str] = []
    got = expected = ""
    try:
        with preserved():  # what a plugin sets for good is the finding of one rule, and must not decide the next
            for made in chain(refused if rule == "contract" else (), known[rule](under_test)):
                got, expected = made.got, made.expected
                if not made.ok:
                    return Result(rule, False, made.fed, got, expected)
                checked.append(made.fed)
    except Skip as skip:
        return Result(rule, True, "", "", "", skipped_reason=str(skip))
    except Broken as broken:
        return Result(rule, False, under_test.fed, broken.got, broken.expected)
    except (Exception, SystemExit) as error:  # a plugin that raises has failed the rule: the error is the finding
        return Result(rule, False, under_test.fed, one_line(error), "no error")
    finally:
        under_test.reset()
    return Result(rule, True, "; ".join(dict.fromkeys(checked)), got, expected)
