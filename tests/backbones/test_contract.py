"""What every backbone must do, over the registry."""

from __future__ import annotations

import random
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lossbench.backbones.base import Backbone
from lossbench.errors import LossbenchError, ParameterError
from lossbench.losses._moments import resampled_moments
from lossbench.losses._pixel import prepare
from lossbench.registry import Registry
from lossbench.training.montecarlo import Resampler
from tests.backbones.conftest import CLASSES, FORMS, Built, build_small, unaliased

SIZE = (65, 97)
#: Built several times over below; the heavy ones differ from a lighter one of the list in nothing that matters there.
LIGHT = [name for name in [*unaliased(), *FORMS] if name not in {"fcn8s_vgg16", "fcn_resnet101"}]


def dropouts(module: nn.Module) -> list[_DropoutNd]:
    return [part for part in module.modules() if isinstance(part, _DropoutNd)]


def leaves(features: object) -> list[Tensor]:
    if isinstance(features, Tensor):
        return [features]
    return [leaf for part in features for leaf in leaves(part)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", [False, True])
def test_forward_is_head_of_trunk_bit_for_bit(built: Built, training: bool) -> None:
    network = built.network.train(training)
    with torch.no_grad():
        torch.manual_seed(3)
        whole = network(built.images)
        torch.manual_seed(3)
        parts = network.head(network.trunk(built.images), SIZE)
    assert whole.shape == (2, CLASSES, *SIZE)
    assert whole.isfinite().all()
    assert torch.equal(whole, parts)


def test_trunk_is_deterministic_in_train_mode(built: Built) -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        first, second = (leaves(built.network.trunk(built.images)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state()), "the trunk drew random numbers"
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_every_active_dropout_runs_in_the_head(built: Built) -> None:
    ran: list[float] = []
    hooks = [d.register_forward_hook(lambda module, *_: ran.append(module.p)) for d in dropouts(built.network)]
    with torch.no_grad():
        features = built.network.trunk(built.images)
        in_trunk = list(ran)
        built.network.head(features, SIZE)
    in_head = ran[len(in_trunk) :]
    for hook in hooks:
        hook.remove()
    assert not any(in_trunk)
    assert any(rate > 0 for rate in in_head)
    for module in built.network.modules():  # stochastic depth and the like, which have no dropout class
        for name in ("drop_prob", "_drop_connect_rate"):
            assert not getattr(module, name, None), f"{name} of {type(module).__name__}"


def test_head_leaves_the_features_alone(built: Built) -> None:
    with torch.no_grad():
        features = built.network.trunk(built.images)
        before = [leaf.clone() for leaf in leaves(features)]
        built.network.head(features, SIZE)
    assert all(torch.equal(a, b) for a, b in zip(before, leaves(features), strict=True))


def test_resampling_leaves_no_trace_and_is_reproducible(built: Built) -> None:
    network = built.network
    with torch.no_grad():
        features = network.trunk(built.images)
        state = {key: value.clone() for key, value in network.state_dict().items()}
        flags = [module.training for module in network.modules()]
        generator = torch.get_rng_state()
        resample = Resampler(network, features, SIZE, seed=11)
        first, second = resample(), resample()
        again = Resampler(network, features, SIZE, seed=11)()
    assert torch.equal(generator, torch.get_rng_state())
    assert flags == [module.training for module in network.modules()]
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_narrow_is_the_head_before_its_widening(built: Built) -> None:
    """Same draws, same bits; and a backbone that has no such form draws nothing."""
    with torch.no_grad():
        features = built.network.trunk(built.images)
        torch.manual_seed(5)
        before = torch.get_rng_state()
        narrow = built.network.narrow(features, SIZE)
        after = torch.get_rng_state()
        torch.manual_seed(5)
        logits = built.network.head(features, SIZE)
    if narrow is None:
        assert torch.equal(before, after)
    else:
        assert torch.equal(after, torch.get_rng_state())
        assert torch.equal(narrow.widened(SIZE), logits)


@pytest.mark.parametrize("passes", [1, 2, 5])
@pytest.mark.parametrize("u_at", ["target", "predicted", "mean"])
def test_u_from_narrow_passes_is_that_of_full_ones(built: Built, passes: int, u_at: Literal["target"]) -> None:
    with torch.no_grad():
        features = built.network.trunk(built.images)
        logits = built.network.head(features, SIZE)
        target = (logits + torch.randn_like(logits)).argmax(1)
        pixels = prepare(logits, target, 255)
        resample, again = (Resampler(built.network, features, SIZE, seed=7) for _ in range(2))
        u = resampled_moments(resample, passes, pixels, u_at=u_at).u
        plain = resampled_moments(lambda: again(), passes, pixels, u_at=u_at).u
    # Untrained, with u around 3e-4, the full ones are themselves 1.2e-6 off double precision.
    assert torch.linalg.vector_norm(u - plain) <= 2e-6 * torch.linalg.vector_norm(plain)


def test_without_dropout_all_passes_are_one(built: Built) -> None:
    rates = [(module, module.p) for module in dropouts(built.network)]
    try:
        for module, _ in rates:
            module.p = 0.0
        with torch.no_grad():
            resample = Resampler(built.network, built.network.trunk(built.images), SIZE, seed=1)
            first = resample()
            assert all(torch.equal(first, resample()) for _ in range(3))
            assert torch.equal(first, built.network(built.images))
    finally:
        for module, rate in rates:
            module.p = rate


def test_gradient_reaches_every_parameter(built: Built) -> None:
    logits = built.network(built.images)
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in built.network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if parameter.ndim > 1:
            assert parameter.grad.any(), name


def test_encoder_parameters_are_some_of_all(built: Built) -> None:
    everything = {id(parameter) for parameter in built.network.parameters()}
    encoder = [id(parameter) for parameter in built.network.encoder_parameters()]
    assert len(set(encoder)) == len(encoder) > 0
    assert set(encoder) < everything


@pytest.mark.parametrize("size", [(32, 32), (33, 130), (64, 96)])
def test_any_image_size(built: Built, size: tuple[int, int]) -> None:
    network = built.network.eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, *size)).shape == (1, CLASSES, *size)


def test_channels_last_and_bfloat16(built: Built) -> None:
    network = built.network.eval()
    images = built.images[:1, :, :64, :64].to(memory_format=torch.channels_last)
    with torch.no_grad():
        plain = network(images.contiguous())
        assert torch.allclose(plain, network(images), atol=1e-3 * plain.abs().max().item())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = network(images)
    assert low.shape == plain.shape
    assert (low.float() - plain).abs().mean() < 0.1 * plain.abs().mean()


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("num_classes", [2, 150])
def test_number_of_classes(name: str, num_classes: int) -> None:
    network = build_small(name, num_classes).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 64, 64)).shape == (1, num_classes, 64, 64)


@pytest.mark.parametrize("name", LIGHT)
def test_initial_weights_are_a_function_of_torchs_generator(name: str) -> None:
    states = []
    for noise in range(2):
        random.seed(noise)
        np.random.seed(noise)  # noqa: NPY002
        states.append(build_small(name).state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.mark.parametrize("name", LIGHT)
def test_dropout_is_a_parameter(name: str) -> None:
    network = build_small(name, dropout=0.25)
    assert 0.25 in [module.p for module in dropouts(network)]


@pytest.mark.parametrize("name", Registry("backbone").names())
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_dropout(name: str, rate: float) -> None:
    with pytest.raises(ParameterError, match="dropout must be"):
        build_small(name, dropout=rate)


@pytest.mark.parametrize("name", Registry("backbone").names())
def test_signature_is_static_and_documented(name: str) -> None:
    """`list` and the validation of a suite must not import torch for it."""
    plugin = Registry("backbone").get(name)
    assert plugin.static_signature is not None
    assert plugin.facts == {"num_classes"}
    assert plugin.params["weights"].coerce("imagenet") == "imagenet"
    assert str(plugin.params["weights"].coerce("a/b.pth")) == "a/b.pth"
    assert plugin.summary


@pytest.mark.parametrize("name", Registry("backbone").names())
def test_weights_that_are_no_file(name: str) -> None:
    with pytest.raises(LossbenchError, match="weights file not found: imagnet") as caught:
        build_small(name, weights="imagnet")
    assert caught.value.hint == "did you mean 'imagenet'?"


def test_all_are_backbones(built: Built) -> None:
    assert isinstance(built.network, Backbone)
