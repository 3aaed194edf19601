"""The weighted sum of registered losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lossbench.conformance import check
from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import CrossDropoutFocalLoss, CrossEntropyLoss, DropoutFocalLoss, LovaszSoftmaxLoss, SumLoss
from lossbench.registry import LossTerm, Registry
from lossbench.training.losscall import takes_resample
from tests.losses.batches import batch, noisy, replay, value_and_grad

PLUGIN = Registry("loss").get("sum")


def test_value_and_gradient_are_the_weighted_sums() -> None:
    logits, target = batch()
    ce, lovasz = CrossEntropyLoss(), LovaszSoftmaxLoss()
    loss = SumLoss(terms=[LossTerm(ce, 0.8, "ce"), LossTerm(lovasz, 0.2, "lovasz")])
    value, grad = value_and_grad(lambda z: loss(z, target), logits)
    (a, ga), (b, gb) = (value_and_grad(lambda z, part=part: part(z, target), logits) for part in (ce, lovasz))
    torch.testing.assert_close(value, 0.8 * a + 0.2 * b)
    torch.testing.assert_close(grad, 0.8 * ga + 0.2 * gb)
    assert torch.equal(loss.diagnostics["ce"], a)
    assert torch.equal(loss.diagnostics["lovasz"], b)


def test_one_term_of_weight_1_is_that_loss_in_every_bit() -> None:
    logits, target = batch(dtype=torch.float32)
    loss = PLUGIN.build({"terms": [{"name": "ce"}]}, num_classes=4, class_counts=[1] * 4, ignore_index=255)
    value, grad = value_and_grad(lambda z: loss(z, target), logits)
    expected, expected_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad)


def test_ce_and_df_are_cdfl_when_they_see_the_same_passes() -> None:
    logits, target = batch()
    passes = noisy(logits)
    loss = SumLoss(terms=[LossTerm(CrossEntropyLoss()), LossTerm(DropoutFocalLoss(), 0.1, "df")])
    cdfl = CrossDropoutFocalLoss(omega=0.1)
    torch.testing.assert_close(loss(logits, target, replay(passes)), cdfl(logits, target, replay(passes)))
    assert torch.equal(loss.diagnostics["df.u_max"], cdfl.diagnostics["u_max"])


def test_passes_add_up() -> None:
    plain = PLUGIN.build({"terms": [{"name": "ce"}]}, ignore_index=255)
    assert plain.extra_forwards == 0
    assert not takes_resample(plain)
    terms = [{"name": "df", "passes": 3}, {"name": "ce"}, {"name": "df", "passes": 4, "grad_through_u": True}]
    loss = PLUGIN.build({"terms": terms}, ignore_index=255)
    assert loss.extra_forwards == 7
    assert loss.resample_with_grad
    assert takes_resample(loss)
    logits, target = batch()
    calls: list[bool] = []

    def resample() -> torch.Tensor:
        calls.append(torch.is_grad_enabled())
        return logits + len(calls) * 0.1

    logits.requires_grad_()
    loss(logits, target, resample)
    assert calls == [False] * 3 + [True] * 4
    assert {"df_1.u_mean", "df_2.u_mean", "ce"} <= loss.diagnostics.keys()


def test_terms_get_their_facts() -> None:
    terms = [{"name": "balanced_ce"}, {"name": "ce", "label_smoothing": 0.1}]
    loss = PLUGIN.build({"terms": terms}, num_classes=3, class_counts=[5, 3, 2], ignore_index=7)
    assert [part.ignore_index for part in loss.losses] == [7, 7]
    assert loss.losses[1].label_smoothing == 0.1
    assert repr(loss).startswith("SumLoss(\n  1 balanced_ce + 1 ce")


def test_what_python_may_get_wrong() -> None:
    with pytest.raises(ParameterError, match="at least one"):
        SumLoss(terms=[])
    with pytest.raises(ParameterError, match="the weight of CrossEntropyLoss must be at least 0"):
        SumLoss(terms=[LossTerm(CrossEntropyLoss(), -1.0)])
    with pytest.raises(ConfigError, match="ignore_index is 255, but that of CrossEntropyLoss is 0"):
        SumLoss(terms=[LossTerm(CrossEntropyLoss(ignore_index=0))])
    with pytest.raises(ConfigError, match="ce_control changes a whole run"):
        PLUGIN.build({"terms": [{"name": "ce_control", "random_stream": "shifted"}]}, ignore_index=255)


@pytest.mark.parametrize(
    "terms",
    [
        [{"name": "ce", "weight": 0.8}, {"name": "lovasz_softmax", "weight": 0.2}],
        [{"name": "balanced_ce"}, {"name": "cdfl", "omega": 1.0}, {"name": "dice", "weight": 0.5}],
        [{"name": "df", "grad_through_u": True}, {"name": "df", "passes": 3}],
    ],
    ids=str,
)
def test_it_conforms(terms: list[dict[str, Any]]) -> None:
    failed = [str(result) for result in check(PLUGIN, terms=terms) if not result.ok]
    assert not failed, "\n".join(failed)


def test_exceptions_of_the_terms_are_its_own() -> None:
    class Spatial(CrossEntropyLoss):
        conformance_exceptions = {"pixel_permutation": "rows are weighted"}  # noqa: RUF012

    loss = SumLoss(terms=[LossTerm(Spatial(), name="spatial")])
    assert loss.conformance_exceptions == {"pixel_permutation": "spatial: rows are weighted"}
