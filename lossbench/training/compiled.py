"""torch.compile, for the part of a backbone where it can change nothing but rounding: the trunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from lossbench.backbones.base import Backbone
from lossbench.errors import SetupError


def compile_trunk(model: Backbone) -> Callable[[Tensor], Any]:
    """`model.trunk` compiled for the shapes of its first call; the module itself and its state dict stay as they are.

    Not the head: compiled dropout draws other masks, and losses would no longer be compared on common random numbers.

    Returns:
        A function like `model.trunk`, which raises SetupError when the trunk cannot be compiled here.
    """
    trunk = torch.compile(model.trunk, dynamic=False)

    def call(images: Tensor) -> Any:
        try:
            return trunk(images)
        except TorchDynamoException as error:  # among others, no compiler
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise SetupError(
                f"torch.compile failed: {words[0]}", hint="install a C++ compiler (g++), or set `compile: false`"
            ) from error

    return call
