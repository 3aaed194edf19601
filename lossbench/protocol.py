"""The training protocol of a cell: everything about training and scoring that can change a number.

Same protocol for all losses of a suite, unless an `overrides:` entry says otherwise. All of it is part of
the cell's identity; what cannot change a result (devices, worker counts, paths) is not here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

#: Marks a field that came after the first records: at its default it is no part of a cell's identity, so that those
#: records stay the cells they are.
LATER: dict[str, JsonValue] = {"later": True}
#: Set by lossbench, where a suite has a `tune:`; never by hand.
SET_BY_TUNING = ("holdout", "holdout_seed", "tuned")

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Protocol(BaseModel):
    """Iterations-based training, native-resolution single-scale evaluation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    iterations: Positive = Field(default=40_000, description="optimiser steps; the same for every loss")
    batch_size: Positive = Field(default=8, description="images per optimiser step")
    accumulate: Positive = Field(default=1, description="micro-batches a step is split into; must divide batch_size")
    crop: Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        default=[512, 1024], description="training crop [height, width] in pixels"
    )
    scale: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] = Field(
        default=[0.5, 2.0], description="[lowest, highest] factor of the random scaling before the crop, log-uniform"
    )
    flip: Fraction = Field(default=0.5, description="probability of a horizontal flip")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="strength of brightness, contrast and saturation jitter (0: off; 0.5: factors in [0.5, 1.5])",
    )
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="SGD with momentum, or AdamW")
    lr: Annotated[float, Field(gt=0)] = Field(default=0.01, description="peak learning rate, of the encoder")
    momentum: Fraction = Field(default=0.9, description="SGD momentum (ignored by AdamW)")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=5e-4, description="weight decay of all parameters (L2 in SGD, decoupled in AdamW)"
    )
    head_lr_factor: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="learning-rate factor of all parameters outside the encoder"
    )
    schedule: Literal["poly", "cosine", "constant"] = Field(
        default="poly", description="learning rate over the steps: from lr to min_lr (poly, cosine), or lr throughout"
    )
    power: Annotated[float, Field(gt=0)] = Field(default=0.9, description="exponent of the poly schedule")
    min_lr: Annotated[float, Field(ge=0)] = Field(
        default=1e-4, description="learning rate at the end of poly and cosine; at most lr"
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        default=0, description="first steps, in which the rate rises linearly to the schedule"
    )
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="largest L2 norm of all gradients together; null: no clipping"
    )
    amp: Literal["none", "bf16", "fp16"] = Field(
        default="none", description="autocast dtype of training; losses and evaluation are in float32 all the same"
    )
    channels_last: bool = Field(default=True, description="images and weights in NHWC memory layout")
    compile: bool = Field(
        default=False, description="torch.compile of the trunk in training (needs a compiler)", json_schema_extra=LATER
    )
    sync_batchnorm: bool = Field(
        default=False,
        description="with several devices: BatchNorm over the micro-batches of all of them",
        json_schema_extra=LATER,
    )
    deterministic: bool = Field(
        default=False, description="torch.use_deterministic_algorithms, and no choice of cuDNN kernels by timing"
    )
    eval_every: Annotated[int, Field(ge=0)] = Field(
        default=0, description="score eval_split every so many steps, for the curve (0: only at the end)"
    )
    train_split: str = Field(default="train", description="split of the dataset that is trained on")
    eval_split: str = Field(default="val", description="split of the dataset that is scored")
    holdout: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="of a trial: share of the training images that are scored instead of trained on",
        json_schema_extra=LATER,
    )
    holdout_seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="of a trial: which images are held out", json_schema_extra=LATER
    )
    tuned: dict[str, JsonValue] | None = Field(
        default=None,
        description="of the tuned track: the whole search that chose the settings of this cell",
        json_schema_extra=LATER,
    )

    def identity(self) -> dict[str, Any]:
        """What of the protocol is part of a cell's identity, as JSON: every field, but later ones at their default."""
        fields = type(self).model_fields
        added = {name for name, info in fields.items() if info.json_schema_extra == LATER}
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in added or value != fields[name].default}

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate ({self.accumulate}) must divide batch_size ({self.batch_size})")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [low, high], got {self.scale}")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr ({self.min_lr}) is above lr ({self.lr})")
        if self.holdout is not None and self.eval_split != self.train_split:
            raise ValueError("a hold-out is a part of the training split: eval_split must be train_split")
        return self
