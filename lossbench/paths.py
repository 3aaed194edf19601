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


def shipped(folder: str) -> Path:
    """Where a folder that comes with lossbench lies, `suites` or `results`: a wheel's copy, or beside the package in a
    checkout. It need not be there."""
    package = Path(__file__).resolve().parent
    inside = package / f"_{folder}"
    return inside if inside.is_dir() else package.parent / folder
