"""The processes that train one cell together, as training sees them; and the case of one process, which is no group.

With W processes (ranks) every micro-batch is cut into W parts, one a rank: a step is that of one process whose
`accumulate` is W times as large, but for BatchNorm. See `distributed.py` for what they tell one another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from lossbench.errors import ConfigError
from lossbench.protocol import Protocol

#: The first step at which a loss was not finite: (step, loss, largest logit).
Bad = tuple[int, float, float]
#: Forward pass and loss of a micro-batch: (images, target, seed) -> (loss with gradient, logits without).
Pass = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class Ranks:
    """One process alone: everything it would tell others is what it knows. `distributed.Group` is several.

    All ranks must call the same methods in the same order.

    Attributes:
        rank: 0 is the worker: it alone writes checkpoints, events and the record, and reads the clock.
        world: how many there are.
    """

    rank = 0
    world = 1

    def agreed(self, flag: bool) -> bool:
        """What rank 0 says."""
        return flag

    def total(self, number: float) -> float:
        """The sum over the ranks."""
        return number

    def most(self, number: float) -> float:
        """The largest of the ranks' numbers."""
        return number

    def first(self, bad: Bad | None) -> Bad | None:
        """Of what the ranks found, that of the earliest step (then of the lowest rank)."""
        return bad

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over the ranks, in place."""
        return tensor

    def wait(self) -> None:
        """For the others to get here."""

    def over(self) -> None:
        """Nothing is done together any more: what becomes of the others does not matter now."""

    def must_agree(self, text: str, what: str) -> None:
        """Raises SetupError, on every rank, when the texts differ. `what` names them."""

    def wrap(self, model: nn.Module, loss: nn.Module, run: Pass) -> Pass:
        """`run`, such that a backward pass of its loss leaves the mean of the ranks' gradients in all parameters of
        `model` and `loss`."""
        return run

    def held(self) -> AbstractContextManager[object]:
        """Within it gradients are gathered on this rank: for all micro-batches of a step but the last."""
        return nullcontext()

    def share_buffers(self, model: nn.Module, loss: nn.Module) -> None:
        """Make what a step left in buffers the same on all ranks."""


ALONE = Ranks()


def micro_batches(protocol: Protocol, *, split: int = 1, world: int = 1) -> int:
    """Micro-batches of a step that one rank runs, one after the other.

    Args:
        split: parts each of the protocol's micro-batches is split into to save memory.
        world: ranks that share each of those.

    Raises:
        ConfigError: there are not enough images for that.
    """
    parts = protocol.accumulate * split
    if protocol.batch_size % (parts * world):
        shared = f" among {world} devices" if world > 1 else ""
        raise ConfigError(
            f"{protocol.batch_size} images a step in {parts} micro-batches cannot be shared out evenly{shared}",
            hint=f"make batch_size a multiple of {parts * world}" + (", or lower resources.gpus" if shared else ""),
        )
    return parts


def positions(protocol: Protocol, *, split: int = 1, ranks: Ranks = ALONE) -> list[int] | None:
    """The positions in a batch of the images that a rank trains on; None: all. Raises ConfigError."""
    parts = micro_batches(protocol, split=split, world=ranks.world)
    if ranks.world == 1:
        return None
    size = protocol.batch_size // (parts * ranks.world)
    starts = [(part * ranks.world + ranks.rank) * size for part in range(parts)]
    return [start + offset for start in starts for offset in range(size)]
