"""The `track:` of a suite file (pydantic, strict): where curves and scores of recorded cells are sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Text = Annotated[str, Field(min_length=1)] | None


class TensorBoardSpec(BaseModel):
    model_config = STRICT
    name: Literal["tensorboard"] = Field(description="TensorBoard, with its HParams page")
    folder: _Text = Field(default=None, description="log folder; default: tracked/tensorboard in the results folder")


class MlflowSpec(BaseModel):
    model_config = STRICT
    name: Literal["mlflow"] = Field(description="MLflow, a run for each cell")
    uri: _Text = Field(
        default=None, description="tracking server; default: MLFLOW_TRACKING_URI, else a SQLite file in tracked/mlflow"
    )
    experiment: _Text = Field(default=None, description="experiment of the runs; default: the suite's name")


class WandbSpec(BaseModel):
    model_config = STRICT
    name: Literal["wandb"] = Field(description="Weights & Biases, a run for each cell")
    project: _Text = Field(
        default=None, description="project of the runs; default: WANDB_PROJECT, else the suite's name"
    )
    entity: _Text = Field(default=None, description="user or team; default: that of the login")
    mode: Literal["offline", "online"] | None = Field(
        default=None, description="offline: in tracked/wandb, for `wandb sync`; default: WANDB_MODE, else offline"
    )


SPECS: dict[str, type[BaseModel]] = {"tensorboard": TensorBoardSpec, "mlflow": MlflowSpec, "wandb": WandbSpec}
TrackSpec = Annotated[TensorBoardSpec | MlflowSpec | WandbSpec, Field(discriminator="name")]


def _listed(value: Any) -> Any:
    """A name, a mapping, or a list of them."""
    entries = value if isinstance(value, list) else [value]
    return [{"name": entry} if isinstance(entry, str) else entry for entry in entries]


_Entry = Literal["tensorboard", "mlflow", "wandb"] | TrackSpec
TrackSpecs = Annotated[list[TrackSpec], BeforeValidator(_listed, json_schema_input_type=_Entry | list[_Entry])]
