"""Every registered loss passes every rule; every rule can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lossbench.conformance import check, check_rule, rules
from lossbench.errors import ConfigError, LossbenchError
from lossbench.registry import Plugin, Registry

LOSSES = Registry("loss")
RULES = rules("loss")
BROKEN = Registry("loss", plugins=[Path(__file__).with_name("broken_losses.py")])


def needs_parameters(plugin: Plugin) -> bool:
    return any(param.required for param in plugin.params.values())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("plugin", [p for p in LOSSES if not needs_parameters(p)], ids=lambda p: p.name)
def test_every_loss_passes_every_rule(plugin: Plugin, rule: str) -> None:
    result = check_rule(plugin, rule)
    assert result.ok, str(result)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("ce", {"label_smoothing": 0.1}),
    ("balanced_ce", {"counts": "batch"}),
    ("balanced_ce", {"normalise": "pixels"}),
    ("focal", {"gamma": 0.5, "alpha": [0.1, 0.2, 0.3]}),
    ("focal", {"gamma": 5.0, "alpha": 0.75}),
    ("df", {"gamma": 0.5}),
    ("df", {"gamma": 0.5, "grad_through_u": True, "u_scale": "unit"}),
    ("df", {"u_at": "predicted", "log_p": "mc_mean"}),
    ("df", {"log_p": "mc_mean", "grad_through_u": True}),
    ("cdfl", {"omega": 1.0, "u_at": "mean", "u_scale": "unit", "grad_through_u": True}),
    ("cdfl", {"omega": 1.0, "log_p": "mc_mean"}),
    ("cdfl", {"omega": 0.0, "passes": 2}),
    ("ce_control", {"random_stream": "shifted", "batchnorm": "updated"}),
    ("uce", {"alpha": 0.5, "passes": 3}),
    ("weighted_ce", {"scheme": "enet", "normalise": "pixels"}),
    ("weighted_ce", {"weights": [0.5, 1.0, 3.0]}),
    ("class_balanced", {"gamma": 0.5, "normalise": "weights"}),
    ("poly1", {"epsilon": -1.0}),
    ("ohem_ce", {"min_kept": 0.1}),
    ("ohem_ce", {"threshold": 0.3, "min_kept": 5.0}),
    ("focal_tversky", {"gamma": 0.5}),
    ("ldam", {"scale": 1.0}),
    ("seesaw", {"q": 0.0}),
    ("recall_ce", {"momentum": 0.0}),
    ("unified_focal", {"gamma": 0.0, "delta": 1.0}),
    ("rmi", {"pool": 1}),
    ("boundary", {"alpha": 0.5, "ramp_steps": 0}),
    ("boundary", {"alpha": 0.5, "ramp_steps": 0, "base": "ce"}),
    ("lovasz_softmax", {"method": "histogram"}),
    ("lovasz_softmax", {"method": "histogram", "bins": 64}),
]


@pytest.mark.parametrize(("name", "params"), VARIANTS, ids=str)
def test_options_pass_too(name: str, params: dict[str, Any]) -> None:
    failed = [str(result) for result in check(LOSSES.get(name), **params) if not result.ok]
    assert not failed, "\n".join(failed)


# --- every rule can fail ---

#: Broken loss -> the rule made for its fault, and a part of what the report must say.
FAULTS: dict[str, tuple[str, str]] = {
    "undocumented": ("contract", "docstring"),
    "without_ignore_index": ("contract", "ignore_index"),
    "odd_arguments": ("contract", "(logits, target, images)"),
    "vector": ("scalar_finite", "a tensor of shape (2, 5, 6)"),
    "python_number": ("scalar_finite", "a float"),
    "not_a_module": ("scalar_finite", "a function"),
    "log_of_softmax": ("scalar_finite", "not finite"),
    "leaks_ignored": ("ignore", "gradient at ignored pixels"),
    "fixed_ignore_index": ("ignore", "ignore_index=-100"),
    "averages_over_ignored": ("compaction", "value"),
    "torch_ce": ("all_ignored", "value nan"),
    "inverse_frequency": ("absent_class", "value nan"),
    "wrong_gradient": ("gradcheck", "by differences"),
    "low_precision": ("dtypes", "bfloat16"),
    "wants_contiguous": ("layout", "RuntimeError"),
    "misreads_strides": ("layout", "channels_last"),
    "class_0_is_background": ("class_permutation", "classes in the order [1, 2, 3, 0]"),
    "first_image_counts_twice": ("image_order", "reverse"),
    "spatial": ("pixel_permutation", "shuffled"),
    "one_vs_rest": ("shift", "constant"),
    "upside_down": ("learns", "right below wrong"),
    "constant": ("learns", "a lower value"),
    "mutates_target": ("purity", "target differs"),
    "mutates_passes": ("purity", "resampled logits differ"),
    "consumes_random_stream": ("purity", "torch's random state changed"),
    "switches_deterministic_mode": ("purity", "deterministic mode changed"),
    "updates_batchnorm": ("purity", "BatchNorm buffer"),
    "samples_pixels": ("determinism", "in every bit"),
    "hidden_state": ("state", "saved state_dict"),
    "too_few_passes": ("resample", "1 calls of resample"),
    "passes_with_gradient": ("resample", "gradients on in resample"),
    "silent_without_resample": ("resample", "no error"),
    "declares_passes_it_cannot_make": ("resample", "extra_forwards = 3"),
    "attached_diagnostics": ("diagnostics", "value"),
    "diagnoses_by_pixel": ("diagnostics", "one value per class"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_its_rule(name: str) -> None:
    rule, said = FAULTS[name]
    result = check_rule(BROKEN.get(name), rule)
    assert not result.ok
    assert result.skipped_reason is None
    assert said in str(result)
    assert result.fed
    assert result.got
    assert result.expected


def test_every_rule_has_a_loss_that_fails_it() -> None:
    assert {rule for rule, _ in FAULTS.values()} == set(RULES)


def test_every_rule_says_what_it_requires() -> None:
    assert all((rule.__doc__ or "").strip() for rule in RULES.values())


@pytest.mark.parametrize("name", ["sound", "saved_state", "spatial_declared"])
def test_sound_losses_pass(name: str) -> None:
    failed = [str(result) for result in check(BROKEN.get(name)) if not result.ok]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize(
    "name",
    ["averages_over_ignored", "wrong_gradient", "class_0_is_background", "consumes_random_stream", "hidden_state"],
)
def test_a_fault_fails_no_rule_but_its_own(name: str) -> None:
    failed = {result.rule for result in check(BROKEN.get(name)) if not result.ok}
    assert failed == {FAULTS[name][0]}


# --- reports ---


def test_a_declared_exception_is_shown_with_its_reason() -> None:
    results = {result.rule: result for result in check(BROKEN.get("spatial_declared"))}
    assert results["pixel_permutation"].skipped_reason == "rows are weighted"
    assert str(results["pixel_permutation"]) == "skip pixel_permutation: rows are weighted"
    assert results["image_order"].skipped_reason is None


def test_an_exception_to_no_rule_is_a_finding() -> None:
    result = check(BROKEN.get("exception_misspelt"))[0]
    assert not result.ok
    assert result.expected == "did you mean 'pixel_permutation'?"


def test_a_constructor_that_raises_is_a_finding() -> None:
    results = check(BROKEN.get("cannot_be_built"))
    assert not any(result.ok for result in results)
    assert results[0].got == "RuntimeError: no luck"


def test_wrong_parameters_are_the_users() -> None:
    with pytest.raises(LossbenchError, match="no parameter 'gama'"):
        check(LOSSES.get("focal"), gama=2.0)
    with pytest.raises(LossbenchError, match="gamma must be at least 0"):
        check(LOSSES.get("focal"), gamma=-2.0)


def test_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="unknown rule 'shifts'") as caught:
        check_rule(LOSSES.get("ce"), "shifts")
    assert caught.value.hint == "did you mean 'shift'?"


def test_a_passed_rule_lists_what_it_fed() -> None:
    result = check_rule(LOSSES.get("ce"), "scalar_finite")
    assert result.ok
    assert "p = 1 at a wrong class" in result.fed
    assert str(result) == "ok   scalar_finite"
