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
from lossbench.errors import ConfigError, DataError, SetupError, UnknownNameError
from lossbench.execution.spec import Spec
from lossbench.store import Store
from lossbench.training import checkpoint

FILE = "model.safetensors"
_CHECKPOINT = "checkpoint.pt"
_KEEP = (
    "train it with `lossbench run SUITE --keep weights`; where it has a record, into other --results: a finished cell "
    "is not trained again"
)


@dataclass(frozen=True)
class Weights:
    """A state dict, the cell it was trained as, the classes it tells apart, and the user's plugin files it needs."""

    cell: Cell
    class_names: tuple[str, ...]
    plugins: tuple[Path, ...]
    state: dict[str, Tensor]


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
    """The weights that `save` wrote, or those of the checkpoint of an unfinished run. Raises DataError."""
    facts, state = _read_checkpoint(path) if path.suffix == ".pt" else _read_safetensors(path)
    try:
        cell = Cell.from_json(facts["cell"])
        return Weights(cell, tuple(facts["class_names"]), tuple(Path(file) for file in facts["plugins"]), state)
    except (KeyError, TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
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
    return json.loads(said), state


def _read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    state = checkpoint.load(path)
    spec = path.with_name("spec.json")
    if state is None or not spec.is_file():
        what = "cannot be read" if state is None else f"has no {spec.name} beside it, which says what it is of"
        raise DataError(f"{path}: {what}")
    told = Spec.read(spec)
    return {"cell": told.cell, "class_names": (), "plugins": told.plugins}, state["model"]


def find(run: str, store: Store) -> Path:
    """The weights meant by `run`: a file, a run folder, or the beginning of a run's id.

    Raises:
        UnknownNameError: no such run.
        ConfigError: several runs begin so, or its weights were not kept.
    """
    path = Path(run).expanduser()
    if path.is_file():
        return path
    folders = (
        [path] if path.is_dir() else [f for f in (store.root / "runs").glob("*") if f.name.startswith(run.lower())]
    )
    found = [file for folder in folders for file in (folder / FILE, folder / _CHECKPOINT) if file.is_file()]
    ids = {file.parent for file in found}
    if len(ids) > 1:
        raise ConfigError(f"'{run}' is the beginning of {len(ids)} runs", hint="give more of the id")
    if found:
        return found[0]
    if folders:
        raise ConfigError(f"the weights of run {folders[0].name} were not kept", hint=_KEEP)
    if len(Path(run).parts) > 1 or Path(run).suffix:
        raise UnknownNameError(f"no file or run folder {path}")
    record = store.find(run).record
    raise ConfigError(f"the weights of run {record.id} were not kept", hint=_KEEP)
