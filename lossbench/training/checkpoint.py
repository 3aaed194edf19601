"""Checkpoints: atomic, loadable with weights_only, one file a cell; and the hash that proves two runs equal."""

from __future__ import annotations

import hashlib
import os
import pickle
import secrets
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossbench.errors import DataError, SetupError

#: What torch.load raises for a truncated or foreign file: the zip reader, the unpickler and torch each have their own.
UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError, AssertionError, struct.error,
    pickle.UnpicklingError,
)  # fmt: skip


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` atomically: a reader sees the old file or the new one, never a half. Raises SetupError."""
    temporary = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        raise SetupError(f"cannot write checkpoint {path}: {error}", hint="is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`, or None when there is none or it cannot be read (then training starts anew: a
    damaged checkpoint must cost time, not the run). Nothing in the file is executed (weights_only)."""
    if not path.is_file():
        return None
    try:
        return _load(path)
    except UNREADABLE as error:
        print(f"checkpoint {path} cannot be read ({type(error).__name__}: {error}): starting anew", flush=True)
        return None


def read(path: Path) -> dict[str, Any]:
    """The state saved at `path`, for who wants this one and no other. Says nothing. Raises DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other kinds of file that torch knows
            state = _load(path)
    except UNREADABLE as error:
        # Not the words: torch's are a page of advice to load it in a way that runs what is in it.
        raise DataError(f"{path}: cannot be read as a checkpoint ({type(error).__name__})") from None
    if not (isinstance(state, dict) and isinstance(state.get("model"), dict) and isinstance(state.get("step"), int)):
        raise DataError(f"{path}: is no checkpoint of lossbench")
    return state


def _load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes of a state dict: equal hashes mean equal weights, bit for bit."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
