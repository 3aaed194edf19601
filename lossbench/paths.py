"""Paths as users write them."""

from __future__ import annotations

from pathlib import Path

from lossbench.errors import ConfigError


def expand(path: str | Path) -> Path:
    """The path with `~` and `~name` replaced by that home folder. Raises ConfigError when there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{path}: no home folder for {Path(path).parts[0]}", hint="write ./~... for a folder of that name"
        ) from None
