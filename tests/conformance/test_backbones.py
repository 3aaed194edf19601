"""Every rule about backbones can fail. (That ours pass is tests/backbones/test_contract.py's.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lossbench.conformance import check, check_rule, rules
from lossbench.conformance.backbones.passes import same_distribution
from lossbench.registry import Registry

BROKEN = Registry("backbone", plugins=[Path(__file__).with_name("broken_backbones.py")])

#: Broken backbone -> the rule made for its fault, and a part of what the report must say.
FAULTS: dict[str, tuple[str, str]] = {
    "undocumented": ("contract", "docstring"),
    "all_encoder": ("contract", "6 of 6 parameters"),
    "computed_default": ("contract", "signature not static"),
    "no_backbone": ("contract", "a NoBackbone"),
    "cannot_be_built": ("contract", "no luck"),
    "multiple_of_8": ("output_size", "(1, 5, 64, 96)"),
    "binary_is_special": ("classes", "(1, 1, 64, 64)"),
    "misreads_strides": ("layout", "channels_last"),
    "dead_branch": ("gradient", "no gradient: auxiliary.weight, auxiliary.bias"),
    "detached_encoder": ("gradient", "no gradient: encoder.0.weight"),
    "forgets_scale": ("state", "logits differs"),
    "python_seeded": ("determinism", "differ: last.bias"),
    "own_forward": ("cut", "head(trunk(x)) differs"),
    "noisy_trunk": ("trunk", "drew random numbers"),
    "dropout_in_trunk": ("dropout", "1 active dropout layers in the trunk"),
    "without_dropout": ("dropout", "rates in the head: []"),
    "functional_dropout": ("dropout", "all dropout rates 0"),
    "changes_features": ("resample", "features 0 after the passes"),
    "counts_heads": ("resample", "changed: mean"),
    "warms_up": ("resample_distribution", "p = 0.0005"),
    "wrong_narrow": ("narrow", "another number drawn"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_its_rule(name: str) -> None:
    rule, said = FAULTS[name]
    result = check_rule(BROKEN.get(name), rule)
    assert not result.ok
    assert said in str(result)
    assert result.fed
    assert result.got
    assert result.expected


def test_every_rule_has_a_backbone_that_fails_it() -> None:
    assert {rule for rule, _ in FAULTS.values()} == set(rules("backbone"))


def test_every_rule_says_what_it_requires() -> None:
    assert all((rule.__doc__ or "").strip() for rule in rules("backbone").values())


@pytest.mark.parametrize("name", ["sound", "declared"])
def test_sound_backbones_pass(name: str) -> None:
    before = torch.get_rng_state()
    failed = [str(result) for result in check(BROKEN.get(name)) if not result.ok]
    assert not failed, "\n".join(failed)
    assert torch.equal(before, torch.get_rng_state()), "checking leaves the generator alone"


@pytest.mark.parametrize("name", ["all_encoder", "dead_branch", "python_seeded", "own_forward", "wrong_narrow"])
def test_a_fault_fails_no_rule_but_its_own(name: str) -> None:
    assert {result.rule for result in check(BROKEN.get(name)) if not result.ok} == {FAULTS[name][0]}


def test_a_declared_exception_is_shown_with_its_reason() -> None:
    assert check_rule(BROKEN.get("declared"), "dropout").skipped_reason == "has no dropout"


# --- the statistical test ---


def test_its_error_is_what_it_says() -> None:
    """Of samples from one distribution, a share a gets p <= a: 400 of them, within 4 standard errors."""
    generator = torch.Generator().manual_seed(0)
    chances = torch.tensor(
        [
            same_distribution(*torch.randn(2, 6, 3, generator=generator).exp(), permutations=99)  # skewed, too
            for _ in range(400)
        ]
    )
    for level in (0.05, 0.2, 0.5):
        share = float((chances <= level).double().mean())
        assert abs(share - level) < 4 * (level * (1 - level) / 400) ** 0.5


@pytest.mark.parametrize("what", ["mean", "spread"])
def test_it_sees_another_mean_and_another_spread(what: str) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 24, 100, generator=generator)
    changed = second + 0.5 if what == "mean" else 1.5 * second
    assert same_distribution(first, changed, permutations=1999) <= 0.001
    assert same_distribution(first, second, permutations=1999) > 0.001
