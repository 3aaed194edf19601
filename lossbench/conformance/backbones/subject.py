"""A backbone under test: built once for all rules, and put back in order after each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd

from lossbench.backbones.base import Backbone
from lossbench.conformance.report import Broken
from lossbench.registry import Plugin

CLASSES = 5
#: No multiple of anything.
SIZE = (65, 97)


class BackboneSubject:
    """A backbone under test.

    It is built for 5 classes, without pre-trained weights unless the parameters ask for some. Parameters that start at
    zero are shaken, so that nothing is trivially constant.

    Attributes:
        fed: description of what was fed last; the report's if the backbone raises.
    """

    def __init__(self, plugin: Plugin, params: Mapping[str, Any]) -> None:
        self.plugin = plugin
        self.params = dict(params)
        if "weights" in plugin.params:
            self.params.setdefault("weights", "none")
        self.fed = "the constructor"

    @property
    def exceptions(self) -> dict[str, str]:
        return dict(getattr(self.network, "conformance_exceptions", {}))

    def build(self, num_classes: int = CLASSES, *, seed: int = 0) -> Backbone:
        """A fresh network, initialised from torch's generator seeded with `seed`."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.plugin.build(self.params, num_classes=num_classes)
        if not isinstance(network, Backbone):
            raise Broken(f"a {type(network).__name__}", "a lossbench.backbones.base.Backbone")
        return network

    @cached_property
    def _built(self) -> tuple[Backbone, list[Tensor], list[float]]:
        network = self.build()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1, generator=generator)
        return network, [buffer.clone() for buffer in network.buffers()], [part.p for part in dropouts(network)]

    @property
    def network(self) -> Backbone:
        """The network all rules share, in training mode."""
        return self._built[0].train()

    @cached_property
    def images(self) -> Tensor:
        """(2, 3, 65, 97) float32."""
        return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))

    def reset(self) -> None:
        """Buffers, gradients and dropout rates as they were."""
        if "_built" not in self.__dict__:
            return
        network, buffers, rates = self._built
        with torch.no_grad():
            for buffer, before in zip(network.buffers(), buffers, strict=True):
                buffer.copy_(before)
        for part, rate in zip(dropouts(network), rates, strict=True):
            part.p = rate
        network.zero_grad(set_to_none=True)


def dropouts(network: torch.nn.Module) -> list[_DropoutNd]:
    return [part for part in network.modules() if isinstance(part, _DropoutNd)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator seeded, and afterwards what it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def leaves(features: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts. Raises Broken for anything else."""
    if isinstance(features, Tensor):
        return [features]
    if isinstance(features, Mapping | tuple | list):
        parts = features.values() if isinstance(features, Mapping) else features
        return [leaf for part in parts for leaf in leaves(part)]
    raise Broken(f"features that hold a {type(features).__name__}", "a tensor, or a tuple, list or dict of tensors")
