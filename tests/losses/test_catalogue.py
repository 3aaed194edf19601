"""The catalogue: each loss against plain loops, and the identities that tie the losses to each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses import (
    BalancedSoftmaxLoss,
    BoundaryLoss,
    CeDiceLoss,
    CeLovaszLoss,
    ClassBalancedLoss,
    CrossEntropyLoss,
    DiceFocalLoss,
    DiceLoss,
    FocalLoss,
    FocalTverskyLoss,
    GeneralisedDiceLoss,
    LdamLoss,
    LogitAdjustedLoss,
    LovaszSoftmaxLoss,
    OhemCrossEntropyLoss,
    Poly1Loss,
    RecallCrossEntropyLoss,
    RegionMutualInformationLoss,
    SeesawLoss,
    TopKCrossEntropyLoss,
    TverskyLoss,
    UnifiedFocalLoss,
    WeightedCrossEntropyLoss,
)
from tests.losses import reference_catalogue as reference
from tests.losses.batches import VOID, batch, batches, value_and_grad

SEEDS = range(3)
COUNTS = [70_000, 20_000, 900, 11]
Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=30, deadline=None)


def same_bits(one: nn.Module, other: nn.Module, data: Batch) -> None:
    """Value and gradient equal in every bit."""
    logits, target = data
    (v1, g1), (v2, g2) = (value_and_grad(lambda z, loss=loss: loss(z, target), logits) for loss in (one, other))
    assert torch.equal(v1, v2)
    assert torch.equal(g1, g2)


# --- against plain loops ---


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("normalise", ["weights", "pixels"])
@pytest.mark.parametrize("scheme", ["median", "inverse", "sqrt", "enet"])
def test_weighted_ce(seed: int, normalise: str, scheme: str) -> None:
    logits, target = batch(seed)
    pi = reference.shares(COUNTS)
    middle = sum(sorted(pi)[1:3]) / 2
    weights = {
        "median": [middle / q for q in pi],
        "inverse": [1 / q for q in pi],
        "sqrt": [q**-0.5 for q in pi],
        "enet": [1 / math.log(1.02 + q) for q in pi],
    }[scheme]
    loss = WeightedCrossEntropyLoss(COUNTS, scheme=scheme, normalise=normalise)
    expected = reference.weighted(logits, target, weights, normalise == "weights")
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
    given = WeightedCrossEntropyLoss(weights=weights, normalise=normalise)
    assert given(logits, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 0.0), (0.99, 0.0), (0.9999, 2.0)])
def test_class_balanced(seed: int, beta: float, gamma: float) -> None:
    logits, target = batch(seed)
    weights = reference.effective_number([300, 40, 7, 1], beta)
    loss = ClassBalancedLoss([300, 40, 7, 1], beta=beta, gamma=gamma)
    assert loss(logits, target).item() == pytest.approx(
        reference.weighted(logits, target, weights, by_weights=False, gamma=gamma), rel=1e-6
    )


def test_class_balanced_weights_keep_their_digits_where_beta_is_nearly_1() -> None:
    # With beta^n computed as printed, 1 - beta^n has no digit left for one pixel at beta = 1 - 1e-15.
    loss = ClassBalancedLoss([1, 10], beta=1 - 1e-15)
    assert (loss.weights[0] / loss.weights[1]).item() == pytest.approx(10, rel=1e-5)


def test_beta_of_the_paper_balances_no_pixels() -> None:
    equal = ClassBalancedLoss([10_000_000, 100_000], beta=0.9999).weights
    assert equal[0].item() == pytest.approx(equal[1].item(), rel=1e-4)
    wanted = ClassBalancedLoss([10_000_000, 100_000]).weights
    assert (wanted[1] / wanted[0]).item() > 50


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("epsilon", [-1.0, 0.0, 1.0, 4.0])
def test_poly1(seed: int, epsilon: float) -> None:
    logits, target = batch(seed)
    found = Poly1Loss(epsilon=epsilon)(logits, target).item()
    assert found == pytest.approx(reference.poly1(logits, target, epsilon), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("threshold", "least"), [(0.7, 0), (0.7, 15), (0.01, 4), (0.9, 1000)])
def test_ohem(seed: int, threshold: float, least: int) -> None:
    logits, target = batch(seed)
    found = OhemCrossEntropyLoss(threshold=threshold, min_kept=least)(logits, target).item()
    assert found == pytest.approx(reference.ohem(logits, target, threshold, least), rel=1e-12)


def test_ohem_takes_a_share_of_the_labelled_pixels() -> None:
    logits, target = batch(0, void=0.5)
    labelled = int((target != VOID).sum())
    share = OhemCrossEntropyLoss(threshold=1e-6, min_kept=0.25)
    assert share(logits, target) == OhemCrossEntropyLoss(threshold=1e-6, min_kept=math.ceil(labelled / 4))(
        logits, target
    )
    assert share.diagnostics["kept"].item() == pytest.approx(math.ceil(labelled / 4) / labelled)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1.0, 10.0, 55.0, 100.0])
def test_topk(seed: int, k: float) -> None:
    logits, target = batch(seed)
    assert TopKCrossEntropyLoss(k=k)(logits, target).item() == pytest.approx(
        reference.topk(logits, target, k), rel=1e-12
    )


def test_equally_hard_pixels_are_kept_together() -> None:
    logits, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    _, grad = value_and_grad(lambda z: TopKCrossEntropyLoss(k=10.0)(z, target), logits)
    assert (grad != 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_generalised_dice(seed: int) -> None:
    logits, target = batch(seed)
    found = GeneralisedDiceLoss()(logits, target).item()
    assert found == pytest.approx(reference.generalised_dice(logits, target), rel=1e-9)
    without = target.masked_fill(target == 2, 0)  # an absent class
    found = GeneralisedDiceLoss()(logits, without).item()
    assert found == pytest.approx(reference.generalised_dice(logits, without), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("alpha", "beta", "gamma"), [(0.3, 0.7, 4 / 3), (0.5, 0.5, 0.75), (1.0, 1.0, 2.0)])
def test_focal_tversky(seed: int, alpha: float, beta: float, gamma: float) -> None:
    logits, target = batch(seed)
    found = FocalTverskyLoss(alpha=alpha, beta=beta, gamma=gamma)(logits, target).item()
    assert found == pytest.approx(reference.focal_tversky(logits, target, alpha, beta, gamma), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_logit_adjusted(seed: int, tau: float) -> None:
    logits, target = batch(seed)
    found = LogitAdjustedLoss(COUNTS, tau=tau)(logits, target).item()
    assert found == pytest.approx(reference.logit_adjusted(logits, target, COUNTS, tau), rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("margin", "scale"), [(0.5, 30.0), (0.5, 1.0), (2.0, 3.0)])
def test_ldam(seed: int, margin: float, scale: float) -> None:
    logits, target = batch(seed)
    found = LdamLoss(COUNTS, margin=margin, scale=scale)(logits, target).item()
    assert found == pytest.approx(reference.ldam(logits, target, COUNTS, margin, scale), rel=1e-6)


@pytest.mark.parametrize(("p", "q"), [(0.8, 2.0), (0.0, 1.0), (1.5, 0.0)])
def test_seesaw_counts_all_batches_so_far(p: float, q: float) -> None:
    loss = SeesawLoss(4, p=p, q=q)
    seen = [0] * 4
    for seed in SEEDS:
        logits, target = batch(seed)
        target = target.where((target != 3) | (torch.arange(4) > 1), 0)  # uneven counts
        for c in range(4):
            seen[c] += int((target == c).sum())
        expected = reference.seesaw(logits, target, seen, p, q)
        assert loss(logits, target).item() == pytest.approx(expected, rel=1e-9)
    assert loss.counts.tolist() == seen
    loss.eval()(*batch(9))
    assert loss.counts.tolist() == seen


def test_seesaws_gradient_takes_the_factors_as_constants() -> None:
    logits, target = batch(0)
    loss = SeesawLoss(4)
    _, grad = value_and_grad(lambda z: loss(z, target), logits)
    valid = target != VOID
    factors = loss._log_factors(logits, target.where(valid, 0))

    def frozen(z: Tensor) -> Tensor:
        return nn.functional.cross_entropy(z + factors, target, ignore_index=VOID)

    torch.testing.assert_close(grad, value_and_grad(frozen, logits)[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_recall_ce_averages_over_steps(momentum: float) -> None:
    loss = RecallCrossEntropyLoss(4, momentum=momentum)
    past = [math.nan] * 4
    for seed in range(5):
        logits, target = batch(seed)
        if seed == 2:
            target = target.masked_fill(target == 3, VOID)  # an absent class keeps its average
        for c, value in enumerate(reference.recall(logits, target)):
            if not math.isnan(value):
                past[c] = value if math.isnan(past[c]) else momentum * past[c] + (1 - momentum) * value
        weights = [1 - (0 if math.isnan(r) else r) for r in past]
        expected = reference.weighted(logits, target, weights, by_weights=False)
        assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert loss.recall.tolist() == pytest.approx(past, rel=1e-5, nan_ok=True)
    loss.eval()(*batch(9))
    assert loss.recall.tolist() == pytest.approx(past, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("weight", "delta", "gamma"), [(0.5, 0.7, 0.5), (0.0, 0.6, 0.0), (1.0, 0.6, 0.2)])
def test_unified_focal(seed: int, weight: float, delta: float, gamma: float) -> None:
    logits, target = batch(seed)
    found = UnifiedFocalLoss(COUNTS, weight=weight, delta=delta, gamma=gamma)(logits, target).item()
    assert found == pytest.approx(reference.unified_focal(logits, target, COUNTS, weight, delta, gamma), rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("radius", "pool", "weight"), [(3, 3, 0.5), (3, 1, 0.5), (2, 2, 0.0)])
def test_rmi(seed: int, radius: int, pool: int, weight: float) -> None:
    logits, target = batch(seed, size=(2, 13, 16))
    loss = RegionMutualInformationLoss(radius=radius, pool=pool, weight=weight)
    expected = reference.rmi(logits, target, radius, pool, weight)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-9)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_boundary(seed: int) -> None:
    logits, target = batch(seed, size=(2, 5, 6))
    target[1] = target[1].masked_fill(target[1] == 2, VOID)  # an image without a class
    loss = BoundaryLoss(alpha=0.3, ramp_steps=0, base="ce")
    expected = CrossEntropyLoss()(logits, target).item() + 0.3 * reference.boundary(logits, target)
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_boundarys_ramp() -> None:
    data = batch(0)
    loss = BoundaryLoss(alpha=0.5, ramp_steps=4)
    seen = []
    for _ in range(6):
        loss(*data)
        seen.append(loss.diagnostics["alpha"].item())
    assert seen == pytest.approx([0, 0.125, 0.25, 0.375, 0.5, 0.5])
    loss.eval()(*data)
    assert loss.steps.item() == 6


def test_a_filled_image_has_no_boundary() -> None:
    logits = torch.randn(1, 3, 4, 5)
    loss = BoundaryLoss(alpha=1.0, ramp_steps=0)
    loss(logits, torch.ones(1, 4, 5, dtype=torch.int64))
    assert loss.diagnostics["boundary"].item() == 0


# --- identities ---

ALIKE = [
    ("equal weights", WeightedCrossEntropyLoss(weights=[1.0] * 4), CrossEntropyLoss()),
    ("equal counts, pixels", WeightedCrossEntropyLoss([9] * 4, normalise="pixels"), CrossEntropyLoss()),
    ("class balanced, beta 0", ClassBalancedLoss(COUNTS, beta=0.0), CrossEntropyLoss()),
    ("class balanced focal, beta 0", ClassBalancedLoss(COUNTS, beta=0.0, gamma=2.0), FocalLoss()),
    ("poly, epsilon 0", Poly1Loss(epsilon=0.0), CrossEntropyLoss()),
    ("ohem, threshold 1", OhemCrossEntropyLoss(threshold=1.0), CrossEntropyLoss()),
    ("ohem, all kept", OhemCrossEntropyLoss(min_kept=1e6), CrossEntropyLoss()),
    ("top 100 %", TopKCrossEntropyLoss(k=100.0), CrossEntropyLoss()),
    ("focal Tversky, gamma 1", FocalTverskyLoss(gamma=1.0), TverskyLoss()),
    ("logit adjustment, tau 0", LogitAdjustedLoss(COUNTS, tau=0.0), CrossEntropyLoss()),
    ("balanced softmax", BalancedSoftmaxLoss(COUNTS), LogitAdjustedLoss(COUNTS, tau=1.0)),
    ("LDAM, m 0, s 1", LdamLoss(COUNTS, margin=0.0, scale=1.0), CrossEntropyLoss()),
    ("seesaw, p = q = 0", SeesawLoss(4, p=0.0, q=0.0), CrossEntropyLoss()),
    ("boundary, alpha 0", BoundaryLoss(alpha=0.0), GeneralisedDiceLoss()),
    ("boundary, alpha 0, on ce", BoundaryLoss(alpha=0.0, base="ce"), CrossEntropyLoss()),
    ("ce_dice without Dice", CeDiceLoss(dice_weight=0.0), CrossEntropyLoss()),
    ("ce_lovasz without Lovász", CeLovaszLoss(ce_weight=1.0, lovasz_weight=0.0), CrossEntropyLoss()),
    ("dice_focal without focal", DiceFocalLoss(focal_weight=0.0), DiceLoss()),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("one", "other"), [(a, b) for _, a, b in ALIKE], ids=[name for name, _, _ in ALIKE])
def test_identities_hold_in_every_bit(one: nn.Module, other: nn.Module, dtype: torch.dtype) -> None:
    for seed in SEEDS:
        same_bits(one, other, batch(seed, dtype=dtype))


@quick
@given(batches())
def test_compounds_are_sums(data: Batch) -> None:
    logits, target = data
    ce, dice, focal, lovasz = (
        loss()(logits, target) for loss in (CrossEntropyLoss, DiceLoss, FocalLoss, LovaszSoftmaxLoss)
    )
    torch.testing.assert_close(CeDiceLoss()(logits, target), ce + dice)
    torch.testing.assert_close(CeLovaszLoss()(logits, target), 0.8 * ce + 0.2 * lovasz)
    torch.testing.assert_close(DiceFocalLoss()(logits, target), dice + focal)


@quick
@given(batches(dtype=torch.float64), st.floats(0.1, 1.0))
def test_hard_pixels_cost_more_than_all(data: Batch, share: float) -> None:
    logits, target = data
    ce = CrossEntropyLoss()(logits, target).item()
    assert TopKCrossEntropyLoss(k=100 * share)(logits, target).item() >= ce * (1 - 1e-12)


# --- one class, wrong use ---


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: WeightedCrossEntropyLoss(), "class_counts"),
        (lambda: WeightedCrossEntropyLoss(weights=[1.0, -1.0]), "weights"),
        (lambda: WeightedCrossEntropyLoss(weights=[1.0], num_classes=3), "1 weights for 3 classes"),
        (lambda: ClassBalancedLoss([1, 2], beta=1.0), "beta"),
        (lambda: Poly1Loss(epsilon=-2.0), "epsilon"),
        (lambda: OhemCrossEntropyLoss(threshold=0.0), "threshold"),
        (lambda: OhemCrossEntropyLoss(min_kept=2.5), "min_kept"),
        (lambda: TopKCrossEntropyLoss(k=0.0), "k must"),
        (lambda: FocalTverskyLoss(gamma=0.0), "gamma"),
        (lambda: LogitAdjustedLoss([1, 2], tau=-1.0), "tau"),
        (lambda: LdamLoss([1, 2], scale=0.0), "scale"),
        (lambda: SeesawLoss(2, p=-1.0), "p must"),
        (lambda: RecallCrossEntropyLoss(2, momentum=1.0), "momentum"),
        (lambda: UnifiedFocalLoss([1, 2], gamma=1.0), "gamma"),
        (lambda: RegionMutualInformationLoss(radius=0), "radius"),
        (lambda: BoundaryLoss(ramp_steps=-1), "ramp_steps"),
        (lambda: BoundaryLoss(base="dice"), "base"),
    ],
)
def test_wrong_parameters_are_named(make, word: str) -> None:
    with pytest.raises(ParameterError) as caught:
        make()
    assert word in caught.value.message


@pytest.mark.parametrize(
    ("make", "buffer", "unseen"),
    [
        (lambda n: WeightedCrossEntropyLoss(n, scheme="median"), "weights", 40 / 7),
        (lambda n: WeightedCrossEntropyLoss(n, scheme="inverse"), "weights", 347 / 7),
        (lambda n: WeightedCrossEntropyLoss(n, scheme="sqrt"), "weights", (347 / 7) ** 0.5),
        (lambda n: WeightedCrossEntropyLoss(n, scheme="enet"), "weights", 1 / math.log(1.02)),
        (lambda n: ClassBalancedLoss(n, beta=0.0), "weights", 1.0),
        (lambda n: ClassBalancedLoss(n, beta=1 - 1e-12), "weights", 3 / 7 / (1 / 300 + 1 / 40 + 1 / 7)),
        (LogitAdjustedLoss, "offset", -math.log(347)),
        (BalancedSoftmaxLoss, "offset", -math.log(347)),
        (lambda n: LdamLoss(n, margin=0.5), "margins", 0.5),
    ],
)
def test_a_class_without_training_pixels_changes_nothing_for_the_others(
    make: Callable[[list[int]], nn.Module], buffer: str, unseen: float
) -> None:
    with_it, without = getattr(make([300, 40, 7, 0]), buffer), getattr(make([300, 40, 7]), buffer)
    assert with_it[:3].tolist() == pytest.approx(without.tolist(), rel=1e-6)
    assert with_it[3].item() == pytest.approx(unseen, rel=1e-4)


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2], [math.nan, 1]])
@pytest.mark.parametrize(
    "loss", [WeightedCrossEntropyLoss, ClassBalancedLoss, LogitAdjustedLoss, LdamLoss, UnifiedFocalLoss]
)
def test_wrong_counts_are_named(loss: type[nn.Module], counts: list[float]) -> None:
    with pytest.raises(ConfigError, match="class_counts"):
        loss(counts)


@pytest.mark.parametrize(
    "loss",
    [ClassBalancedLoss(COUNTS), LogitAdjustedLoss(COUNTS), LdamLoss(COUNTS), SeesawLoss(4), RecallCrossEntropyLoss(4)],
)
def test_another_number_of_classes_is_named(loss: nn.Module) -> None:
    with pytest.raises(ConfigError, match="4 values, but the logits have 3 classes"):
        loss(*batch(0, classes=3))


@pytest.mark.parametrize(
    "loss",
    [LdamLoss(COUNTS), SeesawLoss(4), RecallCrossEntropyLoss(4), UnifiedFocalLoss(COUNTS),
     RegionMutualInformationLoss(), BoundaryLoss(), TopKCrossEntropyLoss(), OhemCrossEntropyLoss(min_kept=1.0)],
    ids=lambda loss: type(loss).__name__,
)  # fmt: skip
@pytest.mark.parametrize("label", [-3, 4, 200])
def test_labels_out_of_range_are_named(loss: nn.Module, label: int) -> None:
    logits, target = batch(0)
    target[0, 0, 0] = label
    with pytest.raises(ConfigError, match="target holds the label"):
        loss(logits, target)
