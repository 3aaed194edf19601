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


def test_frozen_parameters_are_left_out() -> None:
    model = TwoParts()
    model.encoder.requires_grad_(False)
    optimizer = build_optimizer(model, nn.Identity(), Protocol())
    assert len(optimizer.param_groups) == 1
    assert torch.equal(optimizer.param_groups[0]["params"][0], model.classifier.weight)
