"""Losses that would get round the check, or bring it down."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.conformance import check, check_rule, no_exceptions, rules
from lossbench.conformance.losses.cost import _memory
from lossbench.conformance.losses.inputs import SHAPES
from lossbench.conformance.losses.subject import LossSubject
from lossbench.registry import KINDS, Registry

RUDE = Registry("loss", plugins=[Path(__file__).with_name("rude_losses.py")])


@pytest.mark.parametrize(
    ("name", "fed", "got"),
    [
        ("nan_when_wide", "random float32 logits (2, 4, 64, 128), labels with void", "value nan"),
        ("nan_for_twelve", "logits of an untrained network", "value nan"),
    ],
)
def test_logits_as_they_come_from_a_network_are_finite(name: str, fed: str, got: str) -> None:
    failed = [result for result in check(RUDE.get(name)) if not result.ok]
    assert [result.rule for result in failed] == ["scalar_finite"]
    assert failed[0].fed == fed
    assert failed[0].got.startswith(got)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("computed_default", "signature not static"),
        ("plain_tensor", "tensors that stay behind when it moves to a GPU: part.stays"),
    ],
)
def test_the_contract_of_the_constructor(name: str, got: str) -> None:
    failed = [result for result in check(RUDE.get(name)) if not result.ok]
    assert [(result.rule, result.got) for result in failed] == [("contract", got)]


@pytest.mark.parametrize("when", ["built", "called"])
def test_an_exit_is_a_finding(when: str) -> None:
    results = {result.rule: result for result in check(RUDE.get("leaves"), when=when)}
    assert not results["learns"].ok
    assert results["learns"].got == "SystemExit: 0"
    assert not LossSubject(RUDE.get("leaves"), {"when": when}).runs()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux only")
def test_memory_of_a_loss_that_prints_and_of_one_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that measures memory answers in JSON, or not at all."""
    monkeypatch.setenv("RUDE_WRITES", "1")
    for name in SHAPES:
        monkeypatch.setitem(SHAPES, name, (1, 3, 8, 300))
    assert set(_memory(LossSubject(RUDE.get("chatty"), {}))) == set(SHAPES)
    assert _memory(LossSubject(RUDE.get("leaves"), {"when": "large"})) == {}


# --- exceptions ---


@pytest.mark.parametrize(
    ("rule", "reason", "expected"),
    [
        ("pixel_permutation", "", "a reason, as text"),
        ("pixel_permutation", " \n", "a reason, as text"),
        ("purity", "it sets seeds", "no exception to this rule"),
        ("contract", "it has none", "no exception to this rule"),
        ("pixel_permutations", "rows", "did you mean 'pixel_permutation'?"),
        ("qqqq", "rows", "a rule: contract, "),
    ],
)
def test_an_exception_that_does_not_hold_fails_the_contract(rule: str, reason: str, expected: str) -> None:
    results = check(RUDE.get("excused"), rule=rule, reason=reason)
    failed = [result for result in results if not result.ok]
    assert [result.rule for result in failed] == ["contract"]
    assert (failed[0].fed, failed[0].got) == ("conformance_exceptions", f"{rule!r}: {reason!r}")
    assert failed[0].expected.startswith(expected)
    skipped = {result.rule for result in results if result.skipped_reason is not None}
    assert rule not in skipped, "the rule is judged all the same"


def test_a_reason_that_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = RUDE.get("well_behaved").load()
    monkeypatch.setattr(cls, "conformance_exceptions", {"shift": None}, raising=False)
    assert check_rule(RUDE.get("well_behaved"), "contract").expected == "a reason, as text"


def test_what_shipped_losses_except_may_be_excepted() -> None:
    assert not no_exceptions("loss") & {"gradcheck", "shift", "pixel_permutation", "compaction"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_must_hold_are_rules(kind: str) -> None:
    assert "contract" in no_exceptions(kind) < set(rules(kind))  # type: ignore[arg-type]
