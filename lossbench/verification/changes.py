"""Which files of a results folder a branch adds, changes and deletes, as git tells."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lossbench.errors import ConfigError

_FOLDERS = ("records", "plugins")


@dataclass(frozen=True)
class Changes:
    """Paths below the results folder, with forward slashes. `changed`: were there, and are otherwise now."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def changes_since(results: Path, ref: str) -> Changes:
    """What differs in the records and plugins of a results folder from where this branch left `ref`, not yet committed
    files included.
    Raises ConfigError when git does not know."""
    _git(results, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", ref=ref)
    diff = _git(
        results, "diff", "--name-status", "-z", "--no-renames", "--no-ext-diff", "--relative", "--merge-base", ref,
        "--", *_FOLDERS, ref=ref,
    )  # fmt: skip
    words = diff.split("\0")
    found: dict[str, list[str]] = {"A": [], "D": [], "M": []}
    for status, path in zip(words[::2], words[1::2], strict=False):
        found.get(status[:1], found["M"]).append(path)
    new = _git(results, "ls-files", "-z", "--others", "--exclude-standard", "--", *_FOLDERS, ref=ref).split("\0")
    return Changes((*found["A"], *filter(None, new)), tuple(found["M"]), tuple(found["D"]))


def _git(folder: Path, *arguments: str, ref: str) -> str:
    hint = "name a commit that is in this clone; in CI fetch the whole history (fetch-depth: 0)"
    if ref.startswith("-"):
        raise ConfigError(f"'{ref}' is no commit", hint=hint)
    try:
        done = subprocess.run(["git", "--no-optional-locks", "-C", str(folder), *arguments], capture_output=True)
    except OSError as error:
        raise ConfigError(f"git cannot be run ({error.strerror or error})", hint="install git") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = f" ({said[-1]})" if said else ""
        raise ConfigError(f"git does not know what changed since '{ref}'{reason}", hint=hint)
    return os.fsdecode(done.stdout)
