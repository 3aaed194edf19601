"""DF and CDFL: moments, identities, gradients, what they ask of `resample`."""

from __future__ import annotations

import itertools
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.losses import CrossDropoutFocalLoss, CrossEntropyLoss, DropoutFocalLoss
from lossbench.losses._moments import max_variance, resampled_moments
from lossbench.losses._pixel import prepare
from tests.losses import reference
from tests.losses.batches import VOID, batch, batches, noisy, replay, value_and_grad

Batch = tuple[Tensor, Tensor]
quick = settings(max_examples=30, deadline=None)
U_AT = ["target", "mean", "predicted"]
U_SCALE = ["raw", "unit"]
LOG_P = ["main", "mc_mean"]


# --- against plain loops ---


@pytest.mark.parametrize("u_at", U_AT)
@pytest.mark.parametrize("u_scale", U_SCALE)
@pytest.mark.parametrize("log_p", LOG_P)
@pytest.mark.parametrize("passes", [2, 5])
def test_df_and_cdfl_are_the_loops(u_at: str, u_scale: str, log_p: str, passes: int) -> None:
    logits, target = batch()
    drawn = noisy(logits, passes)
    options = {"u_at": u_at, "u_scale": u_scale, "log_p": log_p, "gamma": 1.5, "alpha": 0.6}
    expected = reference.dropout_focal(logits, target, drawn, **options)
    df = DropoutFocalLoss(passes=passes, **options)(logits, target, replay(drawn))
    assert df.item() == pytest.approx(expected, rel=1e-9, abs=0)
    cdfl = CrossDropoutFocalLoss(omega=0.4, passes=passes, **options)(logits, target, replay(drawn))
    ce = reference.cross_entropy(logits, target)
    assert cdfl.item() == pytest.approx(ce + 0.4 * expected, rel=1e-12)


def test_paper_defaults() -> None:
    loss = CrossDropoutFocalLoss()
    assert (loss.passes, loss.gamma, loss.alpha, loss.omega) == (5, 2.0, 0.75, 0.01)
    assert (loss.u_at, loss.u_scale, loss.grad_through_u, loss.log_p) == ("target", "raw", False, "main")


# --- identities ---


@quick
@given(batches(), st.sampled_from(U_AT), st.sampled_from(U_SCALE), st.booleans(), st.sampled_from(LOG_P))
def test_cdfl_omega_0_is_ce_in_every_bit(data: Batch, u_at: str, u_scale: str, through: bool, log_p: str) -> None:
    logits, target = data
    noise = [z - logits for z in noisy(logits)]
    turn = itertools.cycle(noise)
    loss = CrossDropoutFocalLoss(omega=0.0, u_at=u_at, u_scale=u_scale, grad_through_u=through, log_p=log_p)
    # The passes hang on the logits: whatever gradient goes through them, multiplied by 0, must vanish too.
    value, grad = value_and_grad(lambda z: loss(z, target, lambda: z + next(turn)), logits)
    expected, expected_grad = value_and_grad(lambda z: CrossEntropyLoss()(z, target), logits)
    assert torch.equal(value, expected)
    assert torch.equal(grad, expected_grad)


@pytest.mark.parametrize("omega", [0.0, 1.0])
def test_cdfl_omega_0_trains_ces_weights_bit_for_bit(omega: float) -> None:
    """A whole run with dropout and BatchNorm; passes that leave the random stream and the statistics alone."""

    def train(loss: nn.Module, with_passes: bool) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(8, 4, 1)
        )
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        own = torch.Generator().manual_seed(1)
        for _ in range(8):
            images = torch.randn(2, 3, 6, 6)
            target = torch.randint(4, (2, 6, 6))
            features = model[:3](images)
            logits = model[3:](features)

            def resample(features: Tensor = features) -> Tensor:
                keep = (torch.rand(features.shape, generator=own) < 0.7) / 0.7
                return model[4](features * keep)

            value = loss(logits, target, resample) if with_passes else loss(logits, target)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        return [*model.parameters(), *model.buffers()]

    with torch.random.fork_rng():
        ce = train(CrossEntropyLoss(), False)
        cdfl = train(CrossDropoutFocalLoss(omega=omega, u_scale="unit"), True)
    same = all(torch.equal(one, other) for one, other in zip(ce, cdfl, strict=True))
    assert same == (omega == 0.0)  # omega 1 shows that the comparison can fail


@quick
@given(batches(dtype=torch.float64), st.floats(0, 2), st.floats(0, 3), st.floats(0, 2))
def test_cdfl_detached_is_weighted_ce(data: Batch, omega: float, gamma: float, alpha: float) -> None:
    logits, target = data
    drawn = noisy(logits)
    pixels = prepare(logits, target, VOID)
    u = resampled_moments(replay(drawn), 5, pixels).u
    weight = 1 + omega * alpha * u**gamma

    def weighted(z: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(z, target, ignore_index=VOID, reduction="none")
        return (weight * losses).sum() / (target != VOID).sum()

    loss = CrossDropoutFocalLoss(omega=omega, gamma=gamma, alpha=alpha)
    value, grad = value_and_grad(lambda z: loss(z, target, replay(drawn)), logits)
    expected, expected_grad = value_and_grad(weighted, logits)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("u_at", U_AT)
@pytest.mark.parametrize("u_scale", U_SCALE)
@pytest.mark.parametrize("log_p", LOG_P)
def test_df_is_exactly_0_with_one_pass_or_without_dropout(u_at: str, u_scale: str, log_p: str) -> None:
    logits, target = batch(dtype=torch.float32)
    options = {"u_at": u_at, "u_scale": u_scale, "log_p": log_p}
    one = DropoutFocalLoss(passes=1, **options)(logits, target, replay(noisy(logits)))
    alike = DropoutFocalLoss(passes=5, **options)(logits, target, lambda: logits)
    other = DropoutFocalLoss(passes=5, **options)(logits, target, replay(noisy(logits)))
    assert one == 0
    assert alike == 0
    assert other > 0


def test_df_of_a_network_without_dropout_is_0() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.0))
    images = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 5, 5, dtype=torch.long)
    assert DropoutFocalLoss()(model(images), target, lambda: model(images)) == 0


def test_df_at_gamma_0_is_alpha_ce() -> None:
    logits, target = batch()
    df = DropoutFocalLoss(gamma=0.0, alpha=0.75)(logits, target, replay(noisy(logits)))
    torch.testing.assert_close(df, 0.75 * CrossEntropyLoss()(logits, target), rtol=1e-12, atol=0)


# --- the variance ---


def test_max_variance() -> None:
    assert [max_variance(t) for t in (1, 2, 3, 5, 10)] == [0, 0.25, 2 / 9, 0.24, 0.25]


@quick
@given(batches(), st.integers(1, 7), st.sampled_from(U_AT), st.sampled_from([0.0, 1e-3, 1.0, 1e3]))
def test_u_lies_in_its_range(data: Batch, passes: int, u_at: str, sd: float) -> None:
    logits, target = data
    moments = resampled_moments(replay(noisy(logits, passes, sd)), passes, prepare(logits, target, VOID), u_at=u_at)
    assert (moments.u >= 0).all()
    assert (moments.u <= max_variance(passes)).all()
    assert (moments.u[target == VOID] == 0).all()


def test_u_reaches_its_maximum() -> None:
    target = torch.zeros(1, 1, 1, dtype=torch.long)
    sure = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1)
    passes = [sure, -sure, sure, -sure, sure]
    u = resampled_moments(replay(passes), 5, prepare(sure, target, VOID)).u
    assert u.item() == pytest.approx(0.24, rel=1e-6)
    weight = CrossDropoutFocalLoss(u_scale="unit", gamma=3.0)
    weight(sure, target, replay(passes))
    assert weight.diagnostics["u_max"].item() == pytest.approx(1.0, rel=1e-6)


def test_variance_is_precise_where_raw_moments_go_negative() -> None:
    logits, target = batch(2, classes=3, size=(2, 40, 40), dtype=torch.float32, void=0.0)
    drawn = noisy(logits, 5, sd=1e-3)
    probs = torch.stack([z.softmax(1).gather(1, target[:, None])[:, 0] for z in drawn])
    raw = (probs**2).mean(0) - probs.mean(0) ** 2
    assert (raw < 0).float().mean() > 0.05  # the trap is real
    exact = torch.stack([z.double().softmax(1).gather(1, target[:, None])[:, 0] for z in drawn]).var(0, correction=0)
    u = resampled_moments(replay(drawn), 5, prepare(logits, target, VOID)).u.double()
    assert (u >= 0).all()
    assert ((u - exact).norm() / exact.norm()) < 1e-3
    assert ((raw.double() - exact).norm() / exact.norm()) > 0.01


# --- gradients ---


@pytest.mark.parametrize("loss_class", [DropoutFocalLoss, CrossDropoutFocalLoss])
@pytest.mark.parametrize("u_at", U_AT)
@pytest.mark.parametrize("log_p", LOG_P)
def test_gradient_through_u(loss_class: type[nn.Module], u_at: str, log_p: str) -> None:
    """With grad_through_u the derivative is that of the whole formula, also with respect to the passes."""
    logits, target = batch(size=(1, 2, 3), classes=3)
    loss = loss_class(u_at=u_at, log_p=log_p, grad_through_u=True, passes=3)
    if loss_class is CrossDropoutFocalLoss:
        loss.omega = 10.0
    inputs = tuple(z.detach().requires_grad_() for z in (logits, *noisy(logits, 3)))
    assert torch.autograd.gradcheck(
        lambda z, *drawn: 100 * loss(z, target, replay(list(drawn))), inputs, atol=1e-7, rtol=1e-5
    )


@pytest.mark.parametrize("log_p", LOG_P)
def test_no_gradient_through_u_by_default(log_p: str) -> None:
    logits, target = batch()
    drawn = [z.requires_grad_() for z in noisy(logits)]
    leaf = logits.requires_grad_()
    loss = DropoutFocalLoss(log_p=log_p)(leaf, target, replay(drawn))
    grads = torch.autograd.grad(loss, [leaf, *drawn], allow_unused=True)
    has = [grad is not None and bool(grad.any()) for grad in grads]
    assert has == ([True, *[False] * 5] if log_p == "main" else [False, *[True] * 5])
    if log_p == "mc_mean":  # u constant: the gradient is that of -alpha u^gamma log(mean p), u taken as it is
        pixels = prepare(logits.detach(), target, VOID)
        u = resampled_moments(replay([z.detach() for z in drawn]), 5, pixels).u
        probs = torch.stack([z.softmax(1).gather(1, pixels.target[:, None])[:, 0] for z in drawn])
        value = (-0.75 * u**2 * probs.mean(0).log() * pixels.valid).sum() / pixels.valid.sum()
        for got, expected in zip(grads[1:], torch.autograd.grad(value, drawn), strict=True):
            torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_slope_below_gamma_1_is_finite_at_u_0(gamma: float) -> None:
    logits, target = batch(dtype=torch.float32)
    leaf = logits.requires_grad_()
    loss = DropoutFocalLoss(gamma=gamma, grad_through_u=True)(leaf, target, lambda: leaf * 1.0)
    (grad,) = torch.autograd.grad(loss, leaf)
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("grad_through_u", [False, True])
def test_nan_at_ignored_pixels_of_a_pass_stays_there(grad_through_u: bool) -> None:
    logits, target = batch(dtype=torch.float32)
    ignored = (target == VOID)[:, None]
    drawn = noisy(logits)
    spoilt = [z.masked_fill(ignored, float("nan")).requires_grad_() for z in drawn]
    loss = CrossDropoutFocalLoss(omega=1.0, grad_through_u=grad_through_u)
    leaf = logits.requires_grad_()
    value = loss(leaf, target, replay(spoilt))
    assert torch.equal(value, loss(leaf, target, replay([z.requires_grad_() for z in drawn])))
    for grad in torch.autograd.grad(value, [leaf, *spoilt], allow_unused=True):
        assert grad is None or (grad.isfinite().all() and not grad.masked_select(ignored).any())


# --- resample ---


def test_resample_runs_without_gradients_and_t_times() -> None:
    logits, target = batch()
    seen: list[bool] = []

    def resample() -> Tensor:
        seen.append(torch.is_grad_enabled())
        return logits

    for loss, enabled in (
        (CrossDropoutFocalLoss(passes=4), False),
        (CrossDropoutFocalLoss(passes=4, grad_through_u=True), True),
        (CrossDropoutFocalLoss(passes=4, log_p="mc_mean"), True),
    ):
        seen.clear()
        loss(logits, target, resample=resample)
        assert seen == [enabled] * 4
        assert loss.extra_forwards == 4
        assert loss.resample_with_grad is enabled


@pytest.mark.parametrize("loss", [DropoutFocalLoss(), CrossDropoutFocalLoss()])
def test_missing_resample_says_how_to_pass_one(loss: nn.Module) -> None:
    with pytest.raises(ConfigError, match="resample") as caught:
        loss(*batch())
    assert "resample=lambda: model(images)" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "returned", [torch.zeros(1, 4, 3, 4), torch.zeros(2, 3, 3, 4), None, [torch.zeros(2, 4, 3, 4)]]
)
def test_resample_of_another_shape(returned: object) -> None:
    with pytest.raises(ConfigError, match="resample must return logits of shape"):
        CrossDropoutFocalLoss()(*batch(), lambda: returned)


def test_passes_without_gradient_where_one_is_needed() -> None:
    logits, target = batch()
    with pytest.raises(ConfigError, match="without a gradient"):
        CrossDropoutFocalLoss(grad_through_u=True)(logits.requires_grad_(), target, lambda: logits.detach())


def test_memory_does_not_grow_with_passes() -> None:
    """No pass's logits are alive any more when the next pass is drawn."""
    logits, target = batch(size=(1, 8, 8))
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def resample() -> Tensor:
        nonlocal most
        most = max(most, len(alive))
        fresh = logits.clone()
        alive.add(fresh)
        return fresh

    CrossDropoutFocalLoss(passes=8)(logits, target, resample)
    assert most == 0


def test_diagnostics() -> None:
    logits, target = batch()
    drawn = noisy(logits)
    loss = CrossDropoutFocalLoss(omega=0.5)
    assert loss.diagnostics == {}
    loss(logits.requires_grad_(), target, replay(drawn))
    u = [u for u, _, _ in reference.dropout_terms(logits.detach(), target, drawn)]
    df = reference.dropout_focal(logits.detach(), target, drawn)
    assert loss.diagnostics["u_mean"].item() == pytest.approx(sum(u) / len(u))
    assert loss.diagnostics["u_max"].item() == pytest.approx(max(u))
    assert loss.diagnostics["df_ce_ratio"].item() == pytest.approx(
        df / reference.cross_entropy(logits.detach(), target)
    )
    assert not any(value.requires_grad for value in loss.diagnostics.values())
