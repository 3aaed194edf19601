"""A group of one: what is synchronised with nobody is plain BatchNorm. See test_distributed for two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.training.distributed import Group
from lossbench.training.montecarlo import _untouched
from lossbench.training.syncbn import SyncedBatchNorm, synchronise

CPU = torch.device("cpu")


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    made = Group(tmp_path, rank=0, world=1, device=CPU)
    yield made
    made.close()


def through(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradients and state of two training passes and one in evaluation mode."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        output = model(x)
        (output * torch.arange(output.numel()).view_as(output).sin()).sum().backward()
    assert x.grad is not None
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [output, x.grad, *gradients, *model.state_dict().values(), model.eval()(x)]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(4), (3, 4, 5, 6)),
        (nn.BatchNorm2d(4, momentum=None), (3, 4, 5, 6)),
        (nn.BatchNorm2d(4, affine=False), (3, 4, 5, 6)),
        (nn.BatchNorm2d(4, track_running_stats=False), (3, 4, 5, 6)),
        (nn.BatchNorm1d(4), (7, 4)),
        (BatchNormAct2d(4, act_layer=nn.SiLU), (3, 4, 5, 6)),
    ],
    ids=str,
)
def test_alone_it_is_batchnorm(group: Group, layer: nn.Module, shape: tuple[int, ...]) -> None:
    plain = nn.Sequential(nn.Identity(), layer)
    synced = copy.deepcopy(plain)
    names, parameters = list(synced.state_dict()), [id(p) for p in synced.parameters()]
    synchronise(synced, CPU)
    assert isinstance(synced[1], SyncedBatchNorm)
    assert list(synced.state_dict()) == names
    assert [id(p) for p in synced.parameters()] == parameters
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 10
    for a, b in zip(through(synced, x), through(plain, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_monte_carlo_pass_leaves_its_statistics(group: Group) -> None:
    model = nn.Sequential(nn.BatchNorm2d(4))
    synchronise(model, CPU)
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(2, 4, 3, 3)
    with _untouched([model[0]]):  # type: ignore[list-item]
        model(x)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    model(x)
    assert not torch.equal(model.state_dict()["0.running_mean"], before["0.running_mean"])


def test_half_precision_goes_in_and_out(group: Group) -> None:
    model = nn.Sequential(nn.BatchNorm2d(4))
    synchronise(model, CPU)
    assert model(torch.randn(2, 4, 3, 3).bfloat16()).dtype == torch.bfloat16


def test_a_layer_that_may_do_more_is_refused() -> None:
    class Special(nn.BatchNorm2d):
        pass

    with pytest.raises(ConfigError, match="layer '0' is a Special, which cannot be synchronised"):
        synchronise(nn.Sequential(Special(4)), CPU)
