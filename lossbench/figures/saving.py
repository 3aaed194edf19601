"""A figure as a file: PNG, SVG or PDF by its name, written atomically, the same bytes for the same figure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import ConfigError, SetupError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")


def format_of(path: Path) -> str:
    """The format a file's name asks for. Raises ConfigError."""
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        what = f"'.{suffix}' files" if suffix else "a name without ending"
        raise ConfigError(
            f"--output {path}: cannot draw {what}", hint=f"end it in {', '.join('.' + f for f in FORMATS)}"
        )
    return suffix


def save(figure: Figure, path: Path, *, title: str, description: str) -> None:
    """Write a figure. Title and caption go into the file's metadata, dates and versions do not.

    Raises ConfigError for a format that is none of FORMATS, SetupError when the file cannot be written.
    """
    kind = format_of(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.{kind}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(temporary, format=kind, metadata=_metadata(kind, title, description))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError(f"cannot write {path}: {error.strerror or error}", hint="choose another --output") from error


def _metadata(kind: str, title: str, description: str) -> dict[str, Any]:
    if kind == "png":
        return {"Title": title, "Description": description, "Software": None}
    if kind == "svg":
        return {"Title": title, "Description": description, "Date": None, "Creator": None}
    return {"Title": title, "Subject": description, "CreationDate": None, "Creator": None, "Producer": None}
