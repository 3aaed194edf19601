import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lossbench.backbones.base import Backbone
from lossbench.protocol import Protocol
from lossbench.training.optim import build_optimizer, learning_rate, set_learning_rate, trainable


class TwoParts(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.classifier = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

    def trunk(self, images: Tensor) -> Tensor:
        return self.encoder(images)

    def head(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        return self.classifier(features)

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.encoder.parameters())


def test_poly_follows_the_formula() -> None:
    protocol = Protocol(iterations=100, lr=0.01, min_lr=1e-4, power=0.9)
    assert learning_rate(0, protocol) == 0.01
    assert learning_rate(50, protocol) == pytest.approx((0.01 - 1e-4) * 0.5**0.9 + 1e-4)


def test_cosine_is_half_way_in_the_middle_and_constant_stays() -> None:
    assert learning_rate(50, Protocol(iterations=100, lr=0.01, min_lr=0.0, schedule="cosine")) == pytest.approx(0.005)
    assert learning_rate(99, Protocol(iterations=100, lr=0.01, schedule="constant")) == 0.01


def test_warm_up_is_linear() -> None:
    protocol = Protocol(iterations=100, lr=0.01, schedule="constant", warmup=10)
    assert [learning_rate(s, protocol) for s in (0, 4, 9, 10)] == pytest.approx([0.001, 0.005, 0.01, 0.01])


@given(
    schedule=st.sampled_from(["poly", "cosine", "constant"]),
    iterations=st.integers(2, 500),
    warmup=st.integers(0, 50),
)
def test_rate_stays_within_bounds_and_falls_after_warm_up(schedule: str, iterations: int, warmup: int) -> None:
    protocol = Protocol(iterations=iterations, lr=0.02, min_lr=1e-4, schedule=schedule, warmup=warmup)  # type: ignore[arg-type]
    rates = [learning_rate(step, protocol) for step in range(iterations)]
    assert all(0 < rate <= 0.02 + 1e-12 and math.isfinite(rate) for rate in rates)
    after = rates[warmup:]
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_head_trains_at_its_factor_and_learnable_losses_train_too(name: str) -> None:
    model, loss = TwoParts(), nn.Linear(1, 1)
    protocol = Protocol(optimizer=name, lr=0.01, head_lr_factor=10.0)  # type: ignore[arg-type]
    optimizer = build_optimizer(model, loss, protocol)
    set_learning_rate(optimizer, 0.005)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.encoder.weight)] == 0.005
    assert rate[id(model.classifier.weight)] == 0.05
    assert rate[id(loss.weight)] == 0.05
    assert {id(p) for p in trainable(optimizer)} == {id(p) for p in (*model.parameters(), *loss.parameters())}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_the_scaler_skips_leaves_no_trace(name: str) -> None:
    def run(*gradients: float) -> Tensor:
        torch.manual_seed(0)
        optimizer = build_optimizer(TwoParts(), nn.Identity(), Protocol(optimizer=name, amp="fp16"))  # type: ignore[arg-type]
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(torch.ones(()))
        for gradient in gradients:
            for parameter in trainable(optimizer):
                parameter.grad = torch.full_like(parameter, gradient) * scaler.get_scale()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        return torch.cat([parameter.detach().flatten() for parameter in trainable(optimizer)])

    assert torch.equal(run(math.inf, 1.0, 2.0), run(1.0, 2.0))


def stepped(optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
    """All weights after some steps with gradients that depend on the step alone."""
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in trainable(optimizer):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in trainable(optimizer)])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_is_the_plain_loop_up_to_rounding(name: str) -> None:
    def build() -> torch.optim.Optimizer:
        torch.manual_seed(0)
        return build_optimizer(TwoParts(), nn.Identity(), Protocol(optimizer=name))  # type: ignore[arg-type]

    fused, plain = build(), build()
    for group in plain.param_groups:
        assert group["fused"]
        group |= {"fused": False, "foreach": False}
    start = stepped(build(), 0)
    a, b = stepped(fused, 20), stepped(plain, 20)
    assert torch.linalg.vector_norm(a - b) <= 1e-6 * torch.linalg.vector_norm(a - start)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("saved_fused", [True, False])
def test_its_state_loads_and_goes_on(name: str, saved_fused: bool) -> None:
    """Bit for bit; and the state of an optimiser that was not fused loads too."""

    def build() -> torch.optim.Optimizer:
        torch.manual_seed(0)
        return build_optimizer(TwoParts(), nn.Identity(), Protocol(optimizer=name))  # type: ignore[arg-type]

    first, second = build(), build()
    if not saved_fused:
        for group in first.param_groups:
            group |= {"fused": False, "foreach": False}
    stepped(first, 3)
    with torch.no_grad():
        for parameter, value in zip(trainable(second), trainable(first), strict=True):
            parameter.copy_(value)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(stepped(first, 4), stepped(second, 4))


def test_frozen_parameters_are_left_out() -> None:
    model = TwoParts()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(model, nn.Identity(), Protocol())
    assert len(optimizer.param_groups) == 1
    assert torch.equal(optimizer.param_groups[0]["params"][0], model.classifier.weight)
