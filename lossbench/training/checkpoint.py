"""Checkpoints: atomic, loadable with weights_only, the newest and the one before; and the hash that proves two runs
equal."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import secrets
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lossbench.errors import DataError, SetupError

#: What torch.load raises for a truncated or foreign file: the zip reader, the unpickler and torch each have their own.
UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError, AssertionError, struct.error,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` lies."""
    return path.with_name(f"{path.stem}.prev{path.suffix}")


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` to `path`, and keep what was there as `previous`. Whenever the process dies, one of the two is
    whole. On a full disk the older one makes room. Raises SetupError; then what was there is there still."""
    try:
        try:
            _write(path, state)
        except (OSError, RuntimeError):  # torch wraps a full disk in a RuntimeError
            if not (path.is_file() and previous(path).is_file()):
                raise
            previous(path).unlink()
            _write(path, state)
    except (OSError, RuntimeError) as error:
        raise SetupError(f"cannot write checkpoint {path}: {error}", hint="is the disk full?") from error


def _write(path: Path, state: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        if path.is_file():
            os.replace(path, previous(path))
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # a read-only folder
            temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any] | None:
    """The state saved at `path`; the one before when that one cannot be read; None when there is none (then training
    starts anew: a damaged checkpoint must cost time, not the run). Nothing in a file is executed (weights_only)."""
    for file in (path, previous(path)):
        try:
            if file.is_file():
                _require_whole(file)
                return _load(file)
        except UNREADABLE as error:
            # Not torch's words: they advise to load it in a way that runs what is in it.
            print(f"checkpoint {file} cannot be read ({type(error).__name__}): passed over", flush=True)
    return None


def drop_damaged(path: Path) -> None:
    """Put the checkpoint before in the place of a damaged one: that must not be what the next `save` keeps."""
    try:
        if path.is_file():
            _require_whole(path)
    except UNREADABLE:
        with contextlib.suppress(OSError):
            os.replace(previous(path), path)


def _require_whole(file: Path) -> None:
    """Raises BadZipFile or OSError. torch does not look at the checksums."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is damaged")


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
