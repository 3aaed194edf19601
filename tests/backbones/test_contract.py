"""What every backbone must do: the rules of `lossbench check` over the registry, and what this package adds to them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Literal

import pytest
import torch

from lossbench.conformance import judge, rules, subject
from lossbench.conformance.backbones.subject import SIZE, BackboneSubject, dropouts
from lossbench.errors import LossbenchError, ParameterError
from lossbench.losses._moments import resampled_moments
from lossbench.losses._pixel import prepare
from lossbench.registry import Registry
from lossbench.training.montecarlo import Resampler
from tests.backbones.conftest import FORMS, SMALL, Built, build_small, unaliased

NAMES = [*unaliased(), *FORMS]
#: Built several times over below; the heavy ones differ from a lighter one of the list in nothing that matters there.
HEAVY = {"fcn8s_vgg16", "fcn_resnet101"}
LIGHT = [name for name in NAMES if name not in HEAVY]
#: Rules that build a network of their own, or run one often.
COSTLY = {"classes", "state", "determinism", "resample_distribution"}


@cache
def under_test(name: str) -> BackboneSubject:
    name, form = FORMS.get(name, (name, {}))
    made = subject(Registry("backbone").get(name), {**SMALL.get(name, {}), **form})
    assert isinstance(made, BackboneSubject)
    return made


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Half a gigabyte of networks."""
    yield
    under_test.cache_clear()


@pytest.mark.parametrize(
    ("name", "rule"), [(n, r) for n in NAMES for r in rules("backbone") if n not in HEAVY or r not in COSTLY]
)
def test_every_backbone_passes_every_rule(name: str, rule: str) -> None:
    result = judge(under_test(name), rule)
    assert result.ok, str(result)


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


@pytest.mark.parametrize("name", LIGHT)
def test_dropout_is_a_parameter(name: str) -> None:
    network = build_small(name, dropout=0.25)
    assert 0.25 in [part.p for part in dropouts(network)]


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
