"""The `tune:` of a suite file (pydantic, strict)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Finite = Annotated[float, Field(allow_inf_nan=False)]
#: The first training seed of trials: a count of seeds in a suite never reaches it.
FIRST_SEED = 1000
_MAX_SEEDS = 100


class DimensionSpec(BaseModel):
    """A range, `{low: 1e-4, high: 1e-2, log: true}`, or a list of values."""

    model_config = STRICT
    low: _Finite | None = Field(default=None, description="lower end, included; whole where both ends are")
    high: _Finite | None = Field(default=None, description="upper end, included; above low")
    log: bool | None = Field(default=None, description="draw in the logarithm; default: true for lr and weight_decay")
    values: Annotated[list[bool | int | float | str], Field(min_length=1)] | None = Field(
        default=None, description="the values to choose from, instead of a range; the same as a bare list"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_list(cls, value: Any) -> Any:
        return {"values": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _range_or_list(self) -> DimensionSpec:
        if self.values is not None:
            if (self.low, self.high, self.log) != (None, None, None):
                raise ValueError("either a list of values, or low and high")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a range needs 'low' and 'high'; or give a list of values")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must start above 0, not at {self.low:g}")
        return self


def _seeds(value: Any) -> Any:
    """A bare number is how many."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_SEEDS:
        return list(range(FIRST_SEED, FIRST_SEED + value))
    return value


_SeedList = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
_Seeds = Annotated[
    _SeedList,
    BeforeValidator(_seeds, json_schema_input_type=Annotated[int, Field(ge=1, le=_MAX_SEEDS)] | _SeedList),
]


class TuneSpec(BaseModel):
    model_config = STRICT
    trials: Annotated[int, Field(ge=2, le=1000)] = Field(
        description="trials of every loss alike; the first has the loss's own setting"
    )
    holdout: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="share of the training images that trials are scored on"
    )
    holdout_seed: Annotated[int, Field(ge=0)] = Field(
        default=0, description="which of the training images are held out"
    )
    search: dict[str, DimensionSpec] = Field(
        default={}, description="keys of the protocol that are searched for every loss"
    )
    losses: dict[str, dict[str, DimensionSpec]] = Field(
        default={}, description="parameters of a loss that are searched as well, by the loss's name"
    )
    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="seed of the search")
    seeds: _Seeds = Field(
        default=[FIRST_SEED],
        description="training seeds of each trial, none of those of the suite; a number is how many (from 1000 on)",
    )
    sampler: Literal["halton", "random", "tpe"] = Field(
        default="halton", description="how settings are drawn; tpe (Optuna) learns from the trials before"
    )

    @model_validator(mode="after")
    def _searches(self) -> TuneSpec:
        if not self.search:
            raise ValueError(
                "'search' names what is searched for every loss, e.g. search: {lr: {low: 1e-4, high: 1e-2}}"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a trial seed is given twice")
        return self
