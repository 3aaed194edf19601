"""One cell from spec to record: build the parts, train, score, describe. Starts and ends no process: with several, each
runs this, and all but the first leave no trace."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import lossbench
from lossbench import metrics, provenance
from lossbench.backbones.base import Backbone
from lossbench.cells import Cell, canonical_json
from lossbench.data.batches import TrainBatches
from lossbench.data.cache import CachedSplit
from lossbench.data.holdout import open_parts, scored_part
from lossbench.data.roots import dataset_root
from lossbench.datasets.base import SegmentationDataset
from lossbench.errors import SetupError
from lossbench.execution import notes as notes_on
from lossbench.execution import weights
from lossbench.execution.events import EventWriter
from lossbench.execution.hardware import peak_memory_mb, require_device
from lossbench.execution.plugins import registries_of
from lossbench.execution.predictions import KeptPredictions, PredictionWriter
from lossbench.execution.spec import CHECKPOINTS, Spec
from lossbench.records import Record
from lossbench.terms import parts
from lossbench.training import checkpoint
from lossbench.training.allocator import keep_memory
from lossbench.training.evaluate import Evaluation, evaluate
from lossbench.training.loop import Trainer
from lossbench.training.losscall import random_key
from lossbench.training.ranks import ALONE, Ranks, micro_batches, positions
from lossbench.training.seeding import derive_seed, seed_everything


class CellRun:
    """Runs the cell of a spec; resumable through the checkpoint in its run folder.

    Args:
        should_stop: asked between steps and between evaluation batches.
        ranks: the processes that run this cell, one on each of the spec's devices.

    Raises:
        ConfigError: a step's images cannot be shared among them.
    """

    def __init__(self, spec: Spec, *, should_stop: Callable[[], bool] = lambda: False, ranks: Ranks = ALONE) -> None:
        self.spec, self.should_stop, self.ranks = spec, should_stop, ranks
        self.cell: Cell = spec.parse_cell()
        self.registries = registries_of(spec.plugins)
        self.events = EventWriter(spec.run_dir / "events.jsonl")
        self.checkpoint_file: Path = spec.run_dir / CHECKPOINTS[0]
        self.device = require_device(spec.devices[ranks.rank])
        self.split = spec.split
        micro_batches(self.cell.protocol, split=self.split, world=ranks.world)
        self.started = datetime.now(UTC)
        # What the fork server imported before this process began is known from the spec, the rest from now.
        self.code: dict[str, str] = {}
        for kind, component in self.cell.components.items():
            plugin = self.registries[kind].get(component.name)
            warm = all((part.module or "").startswith("lossbench.") for part in parts(plugin, component.params))
            known = warm and kind in spec.code
            self.code[kind] = spec.code[kind] if known else provenance.code_hash(plugin, component.params)
        self._last_checkpoint = time.monotonic()
        self._trained: Trainer | None = None

    def run(self) -> tuple[Record, NDArray[np.int32], list[str]] | None:
        """(record, per-image counts, image names), or None when stopped: then a checkpoint holds the state. None on
        every rank but the first."""
        cell, protocol, ranks = self.cell, self.cell.protocol, self.ranks
        torch.set_num_threads(max(1, self.spec.threads // ranks.world))
        keep_memory()
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)  # events and streams are those of the current device
        if protocol.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(protocol.deterministic)
        torch.backends.cudnn.benchmark = not protocol.deterministic

        dataset: SegmentationDataset = (
            self.registries["dataset"]
            .get(cell.dataset.name)
            .build(cell.dataset.params, root=dataset_root(self.spec.data_root, cell.dataset.name))
        )
        splits = open_parts(
            dataset, protocol, cache_root=self.spec.cache_root, say=lambda message: print(message, flush=True)
        )
        train, val = splits[protocol.train_split], splits[scored_part(protocol)]
        made_by = {
            "protocol": lossbench.PROTOCOL,
            "code": self.code,
            "data": {name: split.fingerprint for name, split in splits.items()},
            "torch": str(torch.__version__),
        }
        state = checkpoint.load(self.checkpoint_file)
        if state is not None and state.get("made_by") != made_by:
            print("the checkpoint was made by other code, data or torch: starting anew", flush=True)
            state = None
        found = canonical_json([made_by, None if state is None else state["step"]])
        ranks.must_agree(found, "code, data or checkpoints")
        if state is not None and ranks.rank == 0:  # not before every rank has read its own
            checkpoint.drop_damaged(self.checkpoint_file)
        if state is not None and state.get("devices", 1) == ranks.world:
            self.split = max(self.split, state.get("split", 1))  # what did not fit into memory then does not now
        trainer, init_hash = self._trainer(dataset, train, val)
        self._stamp = {"init_hash": init_hash, "made_by": made_by, "split": self.split, "devices": ranks.world}
        notes = notes_on.sharing(protocol, split=self.split, devices=ranks.world)
        if state is not None:
            trainer.load_state(state)
            notes.append(notes_on.resumption(trainer.step, was=state.get("devices", 1), now=ranks.world))
            print(f"resuming at step {trainer.step}", flush=True)
        self._send("start", step=trainer.step, iterations=protocol.iterations)

        if not trainer.run():
            self._save(trainer)
            return None
        self._trained = trainer
        eval_started = time.perf_counter()
        kept = KeptPredictions(
            self.spec.run_dir,
            val,
            images=self.spec.keep_images,
            everything="predictions" in self.spec.keep,
            clean=ranks.rank == 0,
        )
        ranks.wait()
        writer = kept.writer(dataset.colors)
        result = self._score(trainer.model, val, dataset.num_classes, final=True, writer=writer)
        if result is None:
            self._save(trainer)
            return None
        peak, kind = peak_memory_mb(self.device)
        memory = ranks.most(peak), kind
        ranks.over()
        if ranks.rank:
            return None
        kept.finish(protocol.eval_split)
        eval_s = time.perf_counter() - eval_started
        record = self._record(trainer, dataset, splits, result, eval_s, memory, init_hash)
        record.notes += notes
        if "weights" in self.spec.keep:
            weights.save(self.spec.run_dir, trainer.model, cell, dataset.class_names, self.spec.plugins)
        return record, result.per_image, list(val.names)

    def _trainer(self, dataset: SegmentationDataset, train: CachedSplit, val: CachedSplit) -> tuple[Trainer, str]:
        cell, protocol = self.cell, self.cell.protocol
        key = cell.fairness_key
        classes = dataset.num_classes
        seed_everything(derive_seed(key, "initial weights"))
        model: Backbone = (
            self.registries["backbone"].get(cell.backbone.name).build(cell.backbone.params, num_classes=classes)
        )
        init_hash = checkpoint.weights_hash(model.state_dict())
        loss = (
            self.registries["loss"]
            .get(cell.loss.name)
            .build(
                cell.loss.params,
                num_classes=classes,
                class_counts=[int(n) for n in train.class_counts],
                ignore_index=dataset.ignore_index,
            )
        )
        if protocol.sync_batchnorm and self.ranks.world > 1:
            from lossbench.training.syncbn import synchronise  # its torch.distributed is for several processes only

            synchronise(model, self.device)
        model.to(self.device)
        if protocol.channels_last:
            model.to(memory_format=torch.channels_last)
        loss.to(self.device)
        key = random_key(loss, key)
        trainer = Trainer(
            model,
            loss,
            TrainBatches(train, protocol, key=key, positions=positions(protocol, split=self.split, ranks=self.ranks)),
            protocol,
            loss_name=cell.loss.name,
            key=key,
            num_classes=classes,
            device=self.device,
            evaluate=lambda: self._miou_now(model, val, classes),
            should_stop=self.should_stop,
            on_log=lambda step, value, miou: self._send(
                "step", throttle=True, step=step, iterations=protocol.iterations, loss=value, miou=miou
            ),
            on_step=lambda: self._maybe_save(trainer),
            split=self.split,
            ranks=self.ranks,
        )
        return trainer, init_hash

    def _score(
        self,
        model: Backbone,
        val: CachedSplit,
        classes: int,
        *,
        final: bool,
        writer: PredictionWriter | None = None,
    ) -> Evaluation | None:
        protocol = self.cell.protocol
        return evaluate(
            model,
            val,
            classes,
            self.device,
            channels_last=protocol.channels_last,
            should_stop=self.should_stop if final else lambda: False,
            on_batch=lambda done, total: self._send("eval", throttle=True, done=done, total=total),
            on_prediction=writer,
            ranks=self.ranks,
            fine=final,
        )

    def _miou_now(self, model: Backbone, val: CachedSplit, classes: int) -> float:
        result = self._score(model, val, classes, final=False)
        return metrics.mean_iou(result.confusion) if result is not None else math.nan

    def _maybe_save(self, trainer: Trainer) -> None:
        if time.monotonic() - self._last_checkpoint >= self.spec.checkpoint_every_s:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        """One that cannot be written costs a message: the older one stays, and the next is tried."""
        self._last_checkpoint = time.monotonic()
        if self.ranks.rank:
            return
        try:
            checkpoint.save(self.checkpoint_file, {**trainer.state(), **self._stamp})
        except SetupError as error:
            print(f"warning: {error.message} ({error.hint}); going on without it", flush=True)
        else:
            self._send("checkpoint", step=trainer.step)

    def keep(self) -> None:
        """Leave a checkpoint of what is trained to the end: after a failure behind it a re-run only has to score."""
        if self._trained is not None:
            self._save(self._trained)

    def _send(self, event: str, *, throttle: bool = False, **values: Any) -> None:
        if self.ranks.rank == 0:
            self.events.send(event, throttle=throttle, **values)

    def _record(
        self,
        trainer: Trainer,
        dataset: SegmentationDataset,
        splits: dict[str, CachedSplit],
        result: Evaluation,
        eval_s: float,
        memory: tuple[float, str],
        init_hash: str,
    ) -> Record:
        cell, devices = self.cell, self.spec.devices
        ms = trainer.timer.summary()
        facts = provenance.collect(
            cell,
            self.registries,
            data_fingerprint={name: split.fingerprint for name, split in splits.items()},
            threads=self.spec.threads,
            device=self.spec.device,
            command=self.spec.command,
            suite=self.spec.suite,
            started=self.started,
            finished=datetime.now(UTC),
            code=self.code,
        )
        facts["weights_sha256"] = checkpoint.weights_hash(trainer.model.state_dict())
        facts["initial_weights_sha256"] = init_hash
        if len(devices) > 1:
            facts["hardware"] |= {"device": ",".join(devices), "devices": len(devices)}
        return Record(
            cell=cell.identity,
            labels={"dataset": cell.dataset.label, "backbone": cell.backbone.label, "loss": cell.loss.label},
            status="diverged" if trainer.diverged else "ok",
            class_names=list(dataset.class_names),
            confusion=result.confusion,
            extra_counts=result.extra,
            train_pixels=[int(n) for n in splits[cell.protocol.train_split].class_counts],
            curve=trainer.curve.points,
            costs={
                "ms_per_step": ms.get("total"),
                "ms": ms,
                "peak_memory_mb": memory[0],
                "peak_memory_kind": memory[1],
                "extra_forwards": trainer.extra_forwards,
                "train_s": round(trainer.seconds, 3),
                "eval_s": round(eval_s, 3),
                **({"compile_s": round(trainer.compile_s, 3)} if cell.protocol.compile else {}),
                **({"micro_batch_split": self.split} if self.split > 1 else {}),
            },
            diagnostics=dict(trainer.diagnostics),
            provenance=facts,
            notes=[*getattr(dataset, "notes", ()), *([trainer.diverged] if trainer.diverged else [])],
        )
