"""Several processes that train one cell: torch's DistributedDataParallel, and the few words they need beside it.

What they tell one another on the way is small and goes over the CPU (gloo), so that it never waits for a GPU's queue;
gradients go where they are (NCCL between CUDA devices).
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm, _NormBase
from torch.nn.parallel import DistributedDataParallel

from lossbench.errors import SetupError
from lossbench.training.ranks import Bad, Pass, Ranks
from lossbench.training.syncbn import SyncedBatchNorm

#: For a rank that hangs; one that dies is noticed at once, by who started it.
TIMEOUT = timedelta(minutes=30)


class Group(Ranks):
    """The ranks of one cell, all on one machine. A process can be in one group at a time.

    Args:
        folder: private to the cell, where the ranks find one another: nothing else on the machine can interfere.
        device: this rank's.
        on_over: called when the ranks have done the last thing together.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rank: int,
        world: int,
        device: torch.device,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        self.rank, self.world, self._on_over = rank, world, on_over
        # By the host's name gloo may find an address that is not this machine's, or a network's slow way to itself.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        nccl = device.type == "cuda" and dist.is_nccl_available()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if nccl else "gloo",
            store=dist.FileStore(str(folder / "rendezvous"), world),  # type: ignore[attr-defined]
            rank=rank,
            world_size=world,
            timeout=TIMEOUT,
        )
        self._parallel: DistributedDataParallel | None = None

    def close(self) -> None:
        """Leave the group."""
        self._parallel = None
        dist.destroy_process_group()

    def agreed(self, flag: bool) -> bool:
        word = torch.tensor([flag], dtype=torch.uint8)
        dist.broadcast(word, 0)
        return bool(word)

    def total(self, number: float) -> float:
        return float(self.add_up(torch.tensor(number, dtype=torch.float64)))

    def most(self, number: float) -> float:
        largest = torch.tensor(number, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return float(largest)

    def first(self, bad: Bad | None) -> Bad | None:
        mine = torch.tensor(bad or (-1.0, 0.0, 0.0), dtype=torch.float64)
        told = [row.tolist() for row in self._all(mine) if row[0] >= 0]
        if not told:
            return None
        step, value, logit = min(told, key=lambda row: row[0])
        return int(step), value, logit

    def add_up(self, tensor: Tensor) -> Tensor:
        dist.all_reduce(tensor)
        return tensor

    def wait(self) -> None:
        self.total(0)

    def over(self) -> None:
        self._on_over()

    def must_agree(self, text: str, what: str) -> None:
        digest = torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)
        if any(not torch.equal(other, digest) for other in self._all(digest)):
            raise SetupError(f"the {self.world} processes of the cell see different {what}", hint="run again")

    def wrap(self, model: nn.Module, loss: nn.Module, run: Pass) -> Pass:
        whole = _Whole(model, loss, run)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name of broadcast_buffers is not in torch 2.9
            # Buffers: see `share_buffers`. Unused parameters: some encoders (EfficientNet, HRNet) have layers that
            # their features do not need, and a loss may have parameters that a batch does not.
            self._parallel = parallel = DistributedDataParallel(
                whole, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
            )

        def parallel_run(images: Tensor, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
            value: Tensor = parallel(images, target, seed)
            return value, whole.take_logits()

        return parallel_run

    def held(self) -> AbstractContextManager[object]:
        assert self._parallel is not None, "wrap comes first"
        return self._parallel.no_sync()

    @torch.no_grad()
    def share_buffers(self, model: nn.Module, loss: nn.Module) -> None:
        """Running statistics become the mean of the ranks' (those that are synchronised are equal already), buffers
        of the loss those of rank 0."""
        synced = (SyncBatchNorm, SyncedBatchNorm)
        norms = [m for m in model.modules() if isinstance(m, _NormBase) and not isinstance(m, synced)]
        found = [buffer for m in norms for buffer in (m.running_mean, m.running_var) if buffer is not None]
        if found:
            flat = self.add_up(torch.cat(found)).div_(self.world)
            torch._foreach_copy_(found, list(torch.split(flat, [len(buffer) for buffer in found])))
        for buffer in loss.buffers():
            dist.broadcast(buffer, 0)

    def _all(self, mine: Tensor) -> list[Tensor]:
        """What every rank has, by rank."""
        rows = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(rows, mine)
        return rows


class _Whole(nn.Module):
    """Model, loss and what a pass does with them, as the one module whose forward DistributedDataParallel hooks into:
    it has to see where a backward pass starts, and that is the loss."""

    def __init__(self, model: nn.Module, loss: nn.Module, run: Pass) -> None:
        super().__init__()
        self.model, self.loss, self._run = model, loss, run
        self._logits: Tensor | None = None

    def forward(self, images: Tensor, target: Tensor, seed: int) -> Tensor:
        value, self._logits = self._run(images, target, seed)
        return value

    def take_logits(self) -> Tensor:
        """Those of the last pass, without gradient. Not an output: those are copied."""
        logits, self._logits = self._logits, None
        assert logits is not None, "taken once a pass"
        return logits
