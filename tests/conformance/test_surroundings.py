"""Global state: `purity` sees whatever a loss sets, no rule and no loss decides the verdict of the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lossbench.conformance import check, check_rule
from lossbench.conformance.surroundings import SETTINGS, preserved, state, unusual
from lossbench.registry import Registry
from tests.conformance.rude_losses import SETS

RUDE = Registry("loss", plugins=[Path(__file__).with_name("rude_losses.py")])
#: What is said of those that break the check itself, too.
NAMES = {"no gradients": "gradient mode", "double": "default dtype"}


@pytest.mark.parametrize("when", ["called", "built"])
@pytest.mark.parametrize("what", SETS)
def test_purity_sees_a_fixed_setting_whatever_ran_before(what: str, when: str) -> None:
    before = state()
    # All that other rules have done is what the first call leaves: nothing.
    check_rule(RUDE.get("sets_global"), "ignore", what=what, when=when)
    result = check_rule(RUDE.get("sets_global"), "purity", what=what, when=when)
    assert not result.ok
    assert result.got == f"{NAMES.get(what, what)} changed"
    assert state() == before


@pytest.mark.parametrize("what", ["torch's random state", "deterministic mode", "threads", "default dtype"])
def test_all_rules_in_order_find_it_and_nothing_else(what: str) -> None:
    failed = [result for result in check(RUDE.get("sets_global"), what=what) if not result.ok]
    assert [result.rule for result in failed] == ["purity"], "\n".join(map(str, failed))


@pytest.mark.parametrize("what", ["no gradients", "double"])
def test_the_next_loss_is_judged_alone(what: str) -> None:
    before = state()
    first = {result.rule for result in check(RUDE.get("sets_global"), what=what) if not result.ok}
    assert "purity" in first
    assert state() == before
    failed = [str(result) for result in check(RUDE.get("well_behaved")) if not result.ok]
    assert not failed, "\n".join(failed)


def test_every_setting_has_a_loss_that_sets_it() -> None:
    assert {*SETS} - {*NAMES} == {*SETTINGS} - {"default device"}


def test_two_surroundings_differ_in_everything_and_leave_nothing() -> None:
    before = state()
    with unusual(0):
        first = state()
    assert state() == before
    with unusual(1, gradients=False):
        second = state()
    assert state() == before
    same = [what for what in SETTINGS if first[what] == second[what]]
    assert same == ["default device"]


def test_preserved_puts_back_after_an_error() -> None:
    before = state()

    def fail() -> None:
        for change in SETS.values():
            change()
        torch.set_default_device("meta")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), preserved():
        fail()
    assert state() == before
    assert torch.ones(()).device.type == "cpu"
