"""The schema of a suite file (pydantic, strict), and its problems told with file and line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lossbench.errors import ConfigError, did_you_mean
from lossbench.protocol import SET_BY_TUNING, Protocol
from lossbench.track_schema import SPECS, TrackSpecs
from lossbench.tune_schema import DimensionSpec, TuneSpec
from lossbench.yamlfile import YamlDocument, YamlPath, scalar_hint

_MAX_SEEDS = 1000
_SHOWN_PROBLEMS = 5
_COMPONENT_HINT = "write a name, or {name: ..., parameter: value}"
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Text = Annotated[str, Field(min_length=1)] | None


class SlurmKeys(BaseModel):
    """What a suite or a site file passes on to Slurm: options of sbatch without their `slurm_`, or of submitit."""

    model_config = STRICT

    slurm_partition: _Text = Field(default=None, description="partition to submit to")
    slurm_account: _Text = Field(default=None, description="account that is charged")
    slurm_qos: _Text = Field(default=None, description="quality of service")
    slurm_constraint: _Text = Field(default=None, description="features a node must have, e.g. a100")
    slurm_nodelist: _Text = Field(default=None, description="nodes to run on")
    slurm_exclude: _Text = Field(default=None, description="nodes not to run on")
    slurm_gres: _Text = Field(default=None, description="instead of what `gpus` asks for, e.g. gpu:a100:1")
    slurm_time: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="minutes of an allocation; a cell goes on in the next; default: `minutes` + 3, or the partition's",
    )
    slurm_signal_delay_s: Annotated[int, Field(gt=0)] | None = Field(
        default=None,
        description="seconds before the end of an allocation at which cells write a checkpoint; default: 90",
    )
    slurm_array_parallelism: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="tasks of an array that run at a time; default: `--jobs`, else all"
    )
    slurm_exclusive: bool | str | None = Field(default=None, description="whole nodes, e.g. true or user")
    slurm_dependency: _Text = Field(default=None, description="jobs to wait for, e.g. afterok:1234")
    slurm_comment: _Text = Field(default=None, description="comment of the job")
    slurm_mail_type: _Text = Field(default=None, description="events that send mail, e.g. END,FAIL")
    slurm_mail_user: _Text = Field(default=None, description="who gets the mail")
    slurm_wckey: _Text = Field(default=None, description="workload characterisation key")
    slurm_setup: list[str] | None = Field(default=None, description="shell lines before the worker starts")
    slurm_teardown: list[str] | None = Field(default=None, description="shell lines after the worker ended")
    slurm_srun_args: list[str] | None = Field(default=None, description="further arguments of srun")
    slurm_additional_parameters: dict[str, str | int | float | bool] | None = Field(
        default=None, description="any other option of sbatch, e.g. {reservation: friday}"
    )

    def slurm(self) -> dict[str, Any]:
        """The keys that are set, without their prefix."""
        keys = ((name, getattr(self, name)) for name in SlurmKeys.model_fields)
        return {name.removeprefix("slurm_"): value for name, value in keys if value is not None}


class Resources(SlurmKeys):
    """What one cell asks of an executor; None: the executor's default. No part of a cell's identity."""

    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="GPUs: a whole number, or a fraction below 1 to share one; 0: none"
    )
    cpus: Annotated[int, Field(gt=0)] | None = Field(default=None, description="CPU cores, and threads of torch")
    memory_gb: _Positive | None = Field(default=None, description="main memory, GB (10^9 bytes)")
    minutes: _Positive | None = Field(default=None, description="time limit of a cell, minutes; default: none")

    @field_validator("gpus")
    @classmethod
    def _whole_or_shared(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and not gpus.is_integer():
            raise ValueError(f"gpus must be whole, or a fraction below 1, got {gpus:g}")
        return gpus


class ComponentSpec(BaseModel):
    """A name, or a mapping with `name` and parameters."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: str = Field(description="as `lossbench list` shows it; what stands beside it are its parameters")

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class OverrideSpec(BaseModel):
    """An exception for some of the cells."""

    model_config = STRICT
    match: str = Field(
        description="glob over the cells' names, DATASET/BACKBONE/LOSS/seedN as `lossbench plan` prints them"
    )
    protocol: dict[str, Any] = Field(default={}, description="keys of the protocol that these cells have otherwise")
    resources: Resources = Field(
        default=Resources(), description="keys of the resources that these cells have otherwise"
    )

    @model_validator(mode="after")
    def _changes_something(self) -> OverrideSpec:
        if not self.protocol and not self.resources.model_fields_set:
            raise ValueError("an override needs 'protocol' or 'resources'")
        return self


def _seeds(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if not 1 <= value <= _MAX_SEEDS:
        raise ValueError(f"a bare number is how many seeds to run (1 to {_MAX_SEEDS}); for one seed write [{value}]")
    return list(range(value))


def _distinct(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


_Components = Annotated[list[ComponentSpec], Field(min_length=1)]
_SeedList = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)]
_Seeds = Annotated[
    _SeedList,
    BeforeValidator(_seeds, json_schema_input_type=Annotated[int, Field(ge=1, le=_MAX_SEEDS)] | _SeedList),
    AfterValidator(_distinct),
]


class SuiteSpec(BaseModel):
    """A suite: every combination of its datasets, backbones, losses and seeds is a cell."""

    model_config = STRICT
    name: _Text = Field(default=None, description="of the suite, in records and messages; default: the file's name")
    description: str = Field(default="", description="one line for people")
    datasets: _Components = Field(description="what is trained on; a list as a parameter's value is a grid")
    backbones: _Components = Field(description="the networks; a list as a parameter's value is a grid")
    losses: _Components = Field(description="what is compared; a list as a parameter's value is a grid")
    seeds: _Seeds = Field(default=[0], description="seeds each combination is run with; a bare number n: 0 to n - 1")
    protocol: Protocol = Field(
        default=Protocol(), description="how cells train and are scored, the same for every loss"
    )
    overrides: list[OverrideSpec] = Field(default=[], description="exceptions for some cells, applied in order")
    exclude: list[str] = Field(default=[], description="cells not to run: globs over their names, as in overrides")
    resources: Resources = Field(
        default=Resources(), description="what a cell asks of the machine or cluster; never changes a result"
    )
    plugins: list[str] = Field(
        default=[], description="Python files with losses, backbones or datasets of your own, relative to the suite"
    )
    tune: TuneSpec | None = Field(default=None, description="the same search of settings for every loss; default: none")
    track: TrackSpecs = Field(
        default=[], description="where curves are sent, too: a name, a mapping, or a list of them"
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """`protocol:` with every line below it commented out means the default."""
        optional = {name for name, info in cls.model_fields.items() if not info.is_required()}
        return {k: v for k, v in value.items() if v is not None or k not in optional}


@dataclass(frozen=True)
class _Problem:
    where: str
    message: str
    hint: str | None = None


class Problems:
    """Collects what is wrong with a document, to raise the first few together."""

    def __init__(self, document: YamlDocument, model: type[BaseModel] = SuiteSpec) -> None:
        self.document, self._model = document, model
        self._found: list[_Problem] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: YamlPath, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """Note a problem of the value (or key) at `path`."""
        self._found.append(_Problem(self.document.where(path, key=key), message, hint))

    def add_schema(self, error: ValidationError, prefix: YamlPath = (), *, fields_only: bool = False) -> None:
        """Note pydantic's errors in plain words; `fields_only` skips those of fields that do not fit together."""
        for item in error.errors(include_url=False):
            path: YamlPath = (*prefix, *item["loc"])
            last = path[-1] if path else ""
            if fields_only and not item["loc"]:
                continue
            if item["type"] == "extra_forbidden":
                owner = ".".join(str(part) for part in path[:-1] if not isinstance(part, int))
                known = _fields_of(path, self._model)
                self.add(
                    path,
                    f"unknown key '{last}'" + (f" in {owner}" if owner else ""),
                    did_you_mean(str(last), known) or f"known keys: {', '.join(known)}",
                    key=True,
                )
            elif item["type"] == "union_tag_invalid":
                given = str(item["ctx"]["tag"])
                hint = did_you_mean(given, SPECS) or f"one of: {', '.join(SPECS)}"
                self.add(path, f"{_dotted(path)}: there is no tracker '{given}'", hint)
            elif item["type"] == "missing":
                self.add(path[:-1], f"'{last}' is missing", _COMPONENT_HINT if last == "name" else None)
            elif item["type"] == "invalid_key":
                self.add(path, f"a key must be text, got {last!r}", "quote it", key=True)
            elif item["type"] == "model_type" and path[0] in ("datasets", "backbones", "losses"):
                self.add(path, f"{_dotted(path)}: must be a name or a mapping of keys", _COMPONENT_HINT)
            elif item["type"] == "value_error":
                self.add(path, str(item["ctx"]["error"]))
            else:
                value = item["input"]
                got = "nothing" if value is None else repr(value) if not isinstance(value, dict | list) else ""
                self.add(
                    path,
                    f"{_dotted(path)}: {_plain(item['msg'])}" + (f", got {got}" if got else ""),
                    scalar_hint(value, f"{item['type']} {item.get('ctx', {}).get('expected', '')}"),
                )

    def stop(self) -> None:
        """Raise ConfigError when anything was noted: one line a problem, the first few."""
        if not self._found:
            return
        if len(self._found) == 1:
            only = self._found[0]
            raise ConfigError(f"{only.where}: {only.message}", hint=only.hint)
        lines = [
            f"{problem.where}: {problem.message}" + (f" ({problem.hint})" if problem.hint else "")
            for problem in self._found[:_SHOWN_PROBLEMS]
        ]
        more = len(self._found) - len(lines)
        raise ConfigError("\n".join(lines), hint=f"and {more} more" if more else None)


def _fields_of(path: YamlPath, document: type[BaseModel]) -> list[str]:
    """The keys allowed beside the one at `path` of a document."""
    if "protocol" in path[:-1]:
        return [name for name in Protocol.model_fields if name not in SET_BY_TUNING]
    if path[0] == "track":
        known = SPECS.get(str(path[-2]))  # pydantic puts the name of the chosen one before the key
        return list(known.model_fields) if known is not None else list(SPECS)
    if path[0] == "tune" and len(path) > 1:
        return list((TuneSpec if len(path) == 2 else DimensionSpec).model_fields)
    if "resources" in path[:-1]:
        return list(Resources.model_fields)
    model = OverrideSpec if path[0] == "overrides" and len(path) > 1 else document
    return list(model.model_fields)


def _dotted(path: YamlPath) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _plain(message: str) -> str:
    """pydantic's words, in the user's terms."""
    text = re.sub(r"^(Input|Keys|List) should ", "must ", message)
    text = re.sub(r"a valid dictionary( or instance of \w+)?", "a mapping of keys", text)
    return text.replace("a valid integer", "an integer").replace(" valid ", " ").replace(" after validation", "")
