"""The training loop: a fixed number of optimiser steps, the same for every loss.

Every random number is a function of (fairness key, step): initial weights, sample order, crops, flips, dropout masks,
Monte-Carlo passes. So competitors run on common random numbers, Monte-Carlo sampling cannot disturb anything, and a
run that was stopped goes on bit for bit from weights, optimiser state and step alone.

A step is made of micro-batches: `protocol.accumulate` of them, each split further where memory did not suffice, and
shared among the processes of a cell that runs on several devices. The effective batch stays the same. What does not is
what BatchNorm normalises over: always the images that one device sees at a time (but see `protocol.sync_batchnorm`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lossbench import metrics
from lossbench.backbones.base import Backbone
from lossbench.data.batches import TrainBatches, normalise, prefetch
from lossbench.protocol import Protocol
from lossbench.training.compiled import compile_trunk
from lossbench.training.confusion import confusion_matrices
from lossbench.training.curve import Curve, log_interval
from lossbench.training.diagnostics import DiagnosticLog
from lossbench.training.evaluate import predict
from lossbench.training.losscall import blame, call_loss, extra_forwards, micro_batch_shares, takes_resample
from lossbench.training.montecarlo import PlainPasses, Resampler
from lossbench.training.optim import build_optimizer, learning_rate, set_learning_rate, trainable
from lossbench.training.ranks import ALONE, Bad, Ranks, micro_batches
from lossbench.training.seeding import derive_seed
from lossbench.training.timing import StepTimer

AMP_DTYPES = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Trains one backbone with one loss.

    Args:
        model, loss: built, on `device`.
        loss_name: for messages.
        key: the cell's fairness key: the root of all randomness.
        evaluate: scores the model now and returns its mIoU; called every `protocol.eval_every` steps.
        should_stop: asked once a step; True ends `run` early with everything resumable in `state()`.
        on_log: told (step, loss, running training mIoU) at log points. The mIoU is that of this rank's part of the
            batches; so are the loss's diagnostics, which rank 0 alone keeps.
        split: into how many parts each of the protocol's micro-batches is split.
        ranks: the processes that share every micro-batch; `batches` must make this one's part (`ranks.positions`).

    Raises:
        ConfigError: the batch cannot be shared out so.
    """

    def __init__(
        self,
        model: Backbone,
        loss: nn.Module,
        batches: TrainBatches,
        protocol: Protocol,
        *,
        loss_name: str,
        key: str,
        num_classes: int,
        device: torch.device,
        evaluate: Callable[[], float] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        on_log: Callable[[int, float, float], None] = lambda step, loss, miou: None,
        on_step: Callable[[], None] = lambda: None,
        split: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.loss, self.batches, self.protocol = model, loss, batches, protocol
        self.loss_name, self.key, self.num_classes, self.device = loss_name, key, num_classes, device
        self._evaluate, self._should_stop, self._on_log, self._on_step = evaluate, should_stop, on_log, on_step
        self._ranks = ranks
        #: Micro-batches of a step that this process runs.
        self.parts = micro_batches(protocol, split=split, world=ranks.world)
        self.optimizer = build_optimizer(model, loss, protocol)
        self.amp_dtype = AMP_DTYPES[protocol.amp]
        self.scaler = torch.amp.GradScaler(device.type, enabled=protocol.amp == "fp16")
        self.timer = StepTimer(device)
        self.step = 0
        self.curve = Curve()
        self.diverged: str | None = None
        self.seconds = 0.0
        self._unread: list[tuple[int, Tensor, Tensor]] = []
        self._monte_carlo = takes_resample(loss)
        self._trunk = compile_trunk(model) if protocol.compile else model.trunk
        self._pass = ranks.wrap(model, loss, self._forward)
        self._compiling = protocol.compile
        #: Wall seconds of the steps that compiled (the first, and the first after a resumption).
        self.compile_s = 0.0
        self._confusion = torch.zeros(num_classes, num_classes, dtype=torch.float64)
        self._log_every = log_interval(protocol.iterations)
        self._diagnostics = DiagnosticLog(math.ceil(protocol.iterations / self._log_every))

    @property
    def diagnostics(self) -> dict[str, list[Any]]:
        """What the loss logged: see `DiagnosticLog.series`."""
        return self._diagnostics.series

    @property
    def extra_forwards(self) -> int:
        """Head passes beyond the ordinary ones, per optimiser step, on each device."""
        return extra_forwards(self.loss) * self.parts

    def run(self) -> bool:
        """Train to the last step. Returns False when `should_stop` ended it early."""
        started, before = time.perf_counter(), self.seconds
        self.model.train()
        self.loss.train()
        source = prefetch(self.batches, self.step, self.protocol.iterations, pin=self.device.type == "cuda")
        try:
            while self.step < self.protocol.iterations and self.diverged is None:
                if self._ranks.agreed(self._should_stop()):
                    return False
                self.timer.start()
                images, target = next(source)
                self.timer.mark("data")
                self._one_step(images, target)
                self.seconds = before + time.perf_counter() - started
                self._on_step()
        finally:
            source.close()
        return True

    def _one_step(self, images: Tensor, target: Tensor) -> None:
        protocol, step, started = self.protocol, self.step, time.perf_counter()
        lr = learning_rate(step, protocol)
        set_learning_rate(self.optimizer, lr)
        parts, ranks = self.parts, self._ranks
        shares = micro_batch_shares(target, parts, self.batches.split.ignore_index, ranks)
        log = step % self._log_every == 0 or step == protocol.iterations - 1
        values = []
        for part, (x, y, share) in enumerate(zip(images.chunk(parts), target.chunk(parts), shares, strict=True)):
            last = part == parts - 1
            seed = derive_seed(self.key, "step", step, part * ranks.world + ranks.rank)
            with nullcontext() if last else ranks.held():
                value = self._micro_step(x, y, share, seed=seed, log=log, diagnose=log and last and not ranks.rank)
            if value is None:
                return
            values.append(value * share)
        ranks.share_buffers(self.model, self.loss)
        self.scaler.unscale_(self.optimizer)
        if protocol.clip_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(list(trainable(self.optimizer)), protocol.clip_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.timer.mark("optimizer")
        if self._compiling:  # not what a step costs
            self.compile_s += time.perf_counter() - started
            self._compiling = False
        else:
            self.timer.stop()
        self.step += 1
        if log:
            self._log(step, ranks.total(float(torch.stack(values).sum())), lr)
        if protocol.eval_every and self._evaluate is not None and self.step % protocol.eval_every == 0:
            self.curve.add(eval_step=self.step, eval_miou=self._evaluate())

    def _micro_step(
        self, images: Tensor, target: Tensor, share: float, *, seed: int, log: bool, diagnose: bool
    ) -> Tensor | None:
        """Forward and backward of one micro-batch; its detached loss, or None when the run has diverged."""
        images = images.to(self.device, non_blocking=True)
        target = target.to(self.device, non_blocking=True).long()
        value, logits = self._pass(images, target, seed)
        if diagnose:
            self._diagnostics.read(self.loss, self.loss_name, logits, target)
            self.timer.mark("log")
        detached = value.detach()
        if not self._finite(detached, logits, read=log or self.device.type == "cpu"):
            return None
        # Of the ranks' gradients the mean is taken, not the sum.
        torch.autograd.backward(self.scaler.scale(value * (share * self._ranks.world)))
        self.timer.mark("backward")
        if log:
            matrix = confusion_matrices(target, predict(logits), self.num_classes).sum(dim=0)
            self._confusion = 0.8 * self._confusion + matrix.cpu()
            self.timer.mark("log")
        return detached

    def _forward(self, images: Tensor, target: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The loss of a micro-batch that is on the device, and its detached logits."""
        torch.manual_seed(seed)  # dropout masks: common to all losses, independent of what ran before
        inputs = normalise(images)
        if self.protocol.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        size = (inputs.shape[-2], inputs.shape[-1])
        with self._autocast():
            features = self._trunk(inputs)
            logits = self.model.head(features, size)
            resample = self._resampler(inputs, features, size, seed)
        self.timer.mark("forward")
        value = call_loss(self.loss, self.loss_name, logits, target, resample)
        self.timer.mark("loss")
        return value, logits.detach()

    def _finite(self, value: Tensor, logits: Tensor, *, read: bool) -> bool:
        """Whether the loss has been finite up to now; else the run has diverged, or the loss is to blame.

        Reading a value waits for the device, so on a GPU it happens at log points (`read`), for every step since the
        last one: weights are ruined by then, but the logits' size at the first bad step tells whose fault it was.
        """
        bad: Bad | None = None
        if not (read and not self._unread and math.isfinite(float(value))):
            largest = torch.linalg.vector_norm(logits.float(), ord=math.inf)
            self._unread.append((self.step, value, largest))
            if not read:
                return True
            unread, self._unread = self._unread, []
            told = ((step, float(loss), float(size)) for step, loss, size in unread)
            bad = next((each for each in told if not math.isfinite(each[1])), None)
        bad = self._ranks.first(bad)  # the ranks must take the same way from here
        if bad is None:
            return True
        step, loss, size = bad
        self.diverged = blame(self.loss_name, loss, size, step)
        return False

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def _resampler(
        self, inputs: Tensor, features: Any, size: tuple[int, int], seed: int
    ) -> Callable[[], Tensor] | None:
        """Monte-Carlo passes for a loss that asks for them, in the precision that is active now."""
        if not self._monte_carlo:
            return None
        seed = derive_seed(seed, "monte carlo")
        if getattr(self.loss, "plain_passes", False):
            return PlainPasses(self.model, inputs, seed=seed)
        return Resampler(self.model, features, size, seed=seed)

    def _log(self, step: int, loss: float, lr: float) -> None:
        self.curve.add(step=step, loss=loss, lr=lr)
        self._diagnostics.keep(step, step // self._log_every, last=step == self.protocol.iterations - 1)
        miou = metrics.mean_iou(self._confusion.numpy())
        self._on_log(self.step, loss, miou)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on bit for bit; loads with weights_only."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curve": self.curve.points,
            "diagnostics": self._diagnostics.series,
            "diverged": self.diverged,
            "timer": self.timer.state(),
            "confusion": self._confusion,
            "seconds": self.seconds,
            "compile_s": self.compile_s,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step = state["step"]
        self.curve = Curve(state["curve"])
        self._diagnostics.series = state["diagnostics"]
        self.diverged = state["diverged"]
        self.timer.load(state["timer"])
        self._confusion = state["confusion"]
        self.seconds = state["seconds"]
        self.compile_s = state.get("compile_s", 0.0)
