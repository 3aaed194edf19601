"""The weights of a run on disk: what `--keep weights` leaves, and finding it again.

`runs/<id>/model.safetensors` holds the final state dict; its header says which cell it is of, so that the file can be
carried anywhere. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lossbench.cells import Cell
from lossbench.errors import ConfigError, DataError, RecordError, SetupError, UnknownNameError
from lossbench.execution.spec import Spec
from lossbench.paths import expand
from lossbench.store import Store
from lossbench.training import checkpoint

FILE = "model.safetensors"
_CHECKPOINT = "checkpoint.pt"
_SPEC = "spec.json"
_KEEP = (
    "train it with `lossbench run SUITE --keep weights`; where it has a record, into other --results: a finished cell "
    "is not trained again"
)


@dataclass(frozen=True)
class Weights:
    """A state dict, the cell it was trained as, the classes it tells apart, and the user's plugin files it needs.

    `step`: after how many steps a checkpoint was written; None when these are the final weights.
    """

    cell: Cell
    class_names: tuple[str, ...]
    plugins: tuple[Path, ...]
    state: dict[str, Tensor]
    step: int | None = None


def save(folder: Path, model: nn.Module, cell: Cell, class_names: Sequence[str], plugins: Sequence[Path]) -> Path:
    """Write the weights of a model into a run folder, atomically. Raises SetupError."""
    facts = {"cell": cell.to_json(), "class_names": list(class_names), "plugins": [str(file) for file in plugins]}
    # safetensors takes neither strided views nor tensors that share memory.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    path, temporary = folder / FILE, folder / f"model.{os.getpid()}.tmp"
    try:
        save_file(state, temporary, {"format": "pt", "lossbench": json.dumps(facts)})
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise SetupError(f"cannot write weights {path}: {error}", hint="is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(path: Path) -> Weights:
    """The weights that `save` wrote, or those of a checkpoint (`.pt`), then with its `step`. Raises DataError."""
    step = None
    if path.suffix == ".pt":
        facts, checkpointed = _read_checkpoint(path)
        state, step = checkpointed["model"], checkpointed["step"]
    else:
        facts, state = _read_safetensors(path)
    try:
        cell = Cell.from_json(facts["cell"])
        return Weights(cell, tuple(facts["class_names"]), tuple(Path(file) for file in facts["plugins"]), state, step)
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # pydantic's errors are ValueErrors
        words = str(error).strip().splitlines() or [""]
        raise DataError(f"{path}: the weights of a cell that this lossbench does not know ({words[0]})") from None


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            said = (file.metadata() or {}).get("lossbench")
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error})") from None
    if said is None:
        raise DataError(f"{path}: does not say which cell it is of", hint="give one that lossbench wrote")
    try:
        return json.loads(said), state
    except (ValueError, RecursionError):
        raise DataError(f"{path}: what its header says of its cell is damaged") from None


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    state = checkpoint.read(path)
    spec = path.with_name(_SPEC)
    if not spec.is_file():
        raise DataError(f"{path}: has no {_SPEC} beside it, which says what it is of")
    try:
        told = Spec.read(spec)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{spec}: cannot be read, and it says what {path.name} is of ({error})") from None
    return {"cell": told.cell, "class_names": (), "plugins": told.plugins}, state


def find(run: str, store: Store) -> Path:
    """The weights meant by `run`: a file (of a checkpoint, too), a run folder, or the beginning of a run's id.

    Raises:
        UnknownNameError: no such run.
        ConfigError: several runs begin so, it is unfinished, or its weights were not kept.
    """
    if not run.strip():
        raise ConfigError(
            "an empty name of a run", hint="give the beginning of its id, its folder or a file of weights"
        )
    path = expand(run)
    try:
        if path.is_file():
            return path
        if path.is_dir() and any((path / name).is_file() for name in (_SPEC, FILE)):
            return _of_folder(path.resolve())
    except OSError as error:  # too long a name, no right to look
        raise UnknownNameError(f"no file or run folder {path} ({error.strerror})") from None
    folders = [folder for folder in (store.root / "runs").glob("*") if folder.name.startswith(run.lower())]
    kept = [folder for folder in folders if any((folder / name).is_file() for name in (FILE, _CHECKPOINT))]
    if len(kept) > 1:
        raise ConfigError(f"'{run}' is the beginning of {len(kept)} runs", hint="give more of the id")
    if folders:
        return _of_folder((kept or folders)[0])
    if path.is_dir():
        raise UnknownNameError(f"no run folder: {path} has neither {_SPEC} nor {FILE}")
    if len(Path(run).parts) > 1 or Path(run).suffix:
        raise UnknownNameError(f"no file or run folder {path}")
    raise _not_kept(store.find(run).record.id)


def _of_folder(folder: Path) -> Path:
    """The final weights in a run folder. Raises ConfigError when there are none, or none yet."""
    partial = folder / _CHECKPOINT
    if partial.is_file() and not _has_record(folder):  # beside a record it is a leftover
        raise ConfigError(
            f"run {folder.name} is unfinished{_progress(partial)}",
            hint=f"finish it with `lossbench run`; to have it as it is, give its file {partial}",
        )
    if (folder / FILE).is_file():
        return folder / FILE
    raise _not_kept(folder.name)


def _has_record(folder: Path) -> bool:
    """Whether the results that a run folder (results/runs/<id>) lies in hold the record of the run."""
    try:
        Store(folder.parent.parent).find(folder.name)
    except (UnknownNameError, RecordError):
        return False
    return True


def _progress(partial: Path) -> str:
    """`, step 3 of 8` of a checkpoint; nothing when it cannot be read."""
    try:
        weights = read(partial)
    except DataError:
        return ""
    return f", step {weights.step} of {weights.cell.protocol.iterations}"


def _not_kept(run: str) -> ConfigError:
    return ConfigError(f"the weights of run {run} were not kept", hint=_KEEP)
