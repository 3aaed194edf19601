"""Where data and caches lie: one data root with a folder per dataset, one cache root."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from lossbench.errors import DataError
from lossbench.paths import expand

DATA_VARIABLE = "LOSSBENCH_DATA"
CACHE_VARIABLE = "LOSSBENCH_CACHE"


def locate_data_root(given: Path | None = None) -> tuple[Path, str]:
    """The data root and what set it: `given` ("--data-root"), the environment variable LOSSBENCH_DATA, or the
    platform's folder for user data ("default"). The folder need not exist: `streets` needs none."""
    if given is not None:
        return expand(given).absolute(), "--data-root"
    value = os.environ.get(DATA_VARIABLE, "")
    if value.strip():
        return expand(value).absolute(), DATA_VARIABLE
    return Path(platformdirs.user_data_dir("lossbench", appauthor=False)), "default"


def data_root(given: Path | None = None) -> Path:
    """The folder that holds a folder per dataset (see `locate_data_root`). Raises DataError when --data-root names
    a folder that is not there: what a user spells out is meant."""
    root, source = locate_data_root(given)
    if source == "--data-root" and not root.is_dir():
        raise DataError(
            f"--data-root: no folder {root}",
            hint="create it, or check the spelling; `lossbench data` says what belongs there",
        )
    return root


def dataset_root(root: Path, name: str) -> Path:
    """Where dataset `name` is expected under a data root: the fact `root` of its constructor."""
    return root / name


def require_dataset_root(name: str, *, how_to_get: str, given: Path | None = None) -> Path:
    """`dataset_root` of a dataset that must be there. Raises DataError that says where it was looked for, why
    there, and how to get it."""
    root, source = locate_data_root(given)
    folder = dataset_root(root, name)
    if not folder.is_dir():
        why = {"default": f"the default data root; {DATA_VARIABLE} is not set"}.get(source, f"data root from {source}")
        raise DataError(f"{name}: no folder {folder} ({why})", hint=how_to_get or None)
    return folder


def cache_root() -> Path:
    """Where decoded datasets are kept: LOSSBENCH_CACHE, else the platform's folder for caches. May not exist yet."""
    value = os.environ.get(CACHE_VARIABLE, "")
    if value.strip():
        return expand(value).absolute()
    return Path(platformdirs.user_cache_dir("lossbench", appauthor=False))
