"""What a registered loss must pass: one implementation for `lossbench check` and for the tests.

    from lossbench.registry import Registry
    for result in check_loss(Registry("loss").get("focal"), gamma=3.0):
        print(result)

A rule says what it fed, what it got and what it expected. A loss for which a rule makes no sense (a boundary loss and
`pixel_permutation`, say) declares so, with the reason, in a class attribute
`conformance_exceptions: ClassVar[dict[str, str]]`, {rule: reason}; the reason is shown in place of a verdict.
"""

from __future__ import annotations

from typing import Any

from lossbench.conformance._behaviour import BEHAVIOUR_RULES
from lossbench.conformance._invariance import INVARIANCE_RULES
from lossbench.conformance._subject import Broken, Result, Rule, Skip, Subject, one_line
from lossbench.conformance._values import VALUE_RULES
from lossbench.errors import ConfigError, LossbenchError, did_you_mean
from lossbench.registry import Plugin

__all__ = ["RULES", "Result", "check_loss", "check_rule"]

#: Every rule by name, in the order of a report. The docstring of a rule says what it requires.
RULES: dict[str, Rule] = {rule.__name__: rule for rule in (*VALUE_RULES, *INVARIANCE_RULES, *BEHAVIOUR_RULES)}


def check_loss(plugin: Plugin, **params: Any) -> list[Result]:
    """Try a loss against every rule of `RULES`.

    Args:
        plugin: the loss, from `Registry("loss").get(name)`.
        params: its hyper-parameters; defaults where not given. A list-valued one holds a value per class.

    Raises:
        LossbenchError: the parameters do not fit (unknown, missing, out of range), or its file does not import.
    """
    return [check_rule(plugin, rule, **params) for rule in RULES]


def check_rule(plugin: Plugin, rule: str, /, **params: Any) -> Result:
    """Try a loss against one rule.

    Raises:
        LossbenchError: as `check_loss`; ConfigError for an unknown rule, also among the loss's declared exceptions.
    """
    if rule not in RULES:
        raise ConfigError(f"unknown rule '{rule}'", hint=did_you_mean(rule, RULES) or f"known: {', '.join(RULES)}")
    subject = Subject(plugin, params)
    try:
        declared = subject.exceptions
    except LossbenchError:
        raise
    except Exception as error:  # whatever a constructor may raise is the finding
        return Result(rule, False, "the constructor", one_line(error), "a loss is built")
    for name in declared:
        if name not in RULES:
            raise ConfigError(
                f"loss '{plugin.name}' declares an exception to the unknown rule '{name}' ({plugin.where})",
                hint=did_you_mean(name, RULES) or f"known: {', '.join(RULES)}",
            )
    if rule in declared:
        return Result(rule, True, "", "", "", skipped_reason=declared[rule])

    checked: list[str] = []
    got = expected = ""
    try:
        for check in RULES[rule](subject):
            got, expected = check.got, check.expected
            if not check.ok:
                return Result(rule, False, check.fed, got, expected)
            checked.append(check.fed)
    except Skip as skip:
        return Result(rule, True, "", "", "", skipped_reason=str(skip))
    except Broken as broken:
        return Result(rule, False, subject.fed, broken.got, broken.expected)
    except Exception as error:  # a loss that raises has failed the rule: the error is the finding, shown in full
        return Result(rule, False, subject.fed, one_line(error), "no error")
    return Result(rule, True, "; ".join(dict.fromkeys(checked)), got, expected)
