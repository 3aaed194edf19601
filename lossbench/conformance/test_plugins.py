"""`pytest --pyargs lossbench.conformance --loss my_pkg.my_loss`: see `lossbench.pytest_plugin`."""

from __future__ import annotations

from typing import Any

import pytest

from lossbench.conformance import judge, rules
from lossbench.pytest_plugin import SUBJECTS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each rule and plugin."""
    found = metafunc.config.stash.get(SUBJECTS, [])
    cases = [
        pytest.param(subject, rule, id=f"{name}-{rule}")
        for name, subject in found
        for rule in rules(subject.plugin.kind)
    ]
    metafunc.parametrize(("subject", "rule"), cases)


def test_rule(subject: Any, rule: str) -> None:
    """The rule holds, or does not apply."""
    result = judge(subject, rule)
    if not result.ok:
        pytest.fail(str(result), pytrace=False)
    if result.skipped_reason is not None:
        pytest.skip(result.skipped_reason)
