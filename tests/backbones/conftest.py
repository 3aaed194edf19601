"""Every registered backbone, built small and without weights, as a fixture: a dropped-in plugin is tested as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch

from lossbench.backbones.base import Backbone
from lossbench.registry import Plugin, Registry

CLASSES = 5
#: Smaller than the defaults, where a default is large and the code is the same.
SMALL = {
    "deeplabv3": {"encoder": "resnet18"},
    "deeplabv3plus": {"encoder": "resnet18"},
    "unet": {"encoder": "resnet18"},
    "smp": {"architecture": "FPN", "encoder": "resnet18"},
    "segnet": {"width": 0.125},
}
#: Forms of a backbone that are cut elsewhere: name, parameters.
FORMS = {"segnet_bayesian": ("segnet", {"bayesian": True})}


def unaliased() -> list[str]:
    """One name for each registered thing."""
    names = {(plugin.file, plugin.attribute): plugin.name for plugin in Registry("backbone")}
    return sorted(names.values())


def build_small(name: str, num_classes: int = CLASSES, **params: object) -> Backbone:
    name, form = FORMS.get(name, (name, {}))
    plugin: Plugin = Registry("backbone").get(name)
    given = {**SMALL.get(name, {}), **form, **params}
    if "weights" in plugin.params:
        given.setdefault("weights", "none")
    torch.manual_seed(0)
    backbone: Backbone = plugin.build(given, num_classes=num_classes)
    return backbone


class Built(NamedTuple):
    name: str
    network: Backbone
    images: torch.Tensor


@pytest.fixture(scope="module", params=[*unaliased(), *FORMS])
def shared(request: pytest.FixtureRequest) -> Built:
    """Built once for a module. Parameters that start at zero are shaken, so that nothing is trivially constant."""
    network = build_small(request.param)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
    return Built(request.param, network, torch.randn(2, 3, 65, 97, generator=generator))


@pytest.fixture
def built(shared: Built) -> Iterator[Built]:
    """`shared` in train mode, with no gradients and no running statistics left over from other tests."""
    shared.network.train()
    shared.network.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    buffers = [(buffer, buffer.clone()) for buffer in shared.network.buffers()]
    yield shared
    for buffer, before in buffers:
        buffer.copy_(before)
    shared.network.zero_grad(set_to_none=True)
