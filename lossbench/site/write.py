"""The folder of a report: written beside what is there, put in place file by file, never over anybody else's files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path, PurePosixPath

from lossbench.errors import UNWRITABLE_HINT, ConfigError, SetupError

#: The list of files of a report; a folder that holds it is one of ours.
MARKER = "lossbench-report.json"
#: What a folder that is published may hold before its first report, beside hidden files.
_ALLOWED = {"CNAME"}


class Folder:
    """A report in the making. Files go into a hidden folder inside `path`; `publish` puts them in their places.

    Raises ConfigError for a folder with other things in it, SetupError when it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        _check(path)
        self.staging = path / f".new-{os.getpid()}"
        try:
            self.staging.mkdir(parents=True)
        except OSError as error:
            raise _unwritable(path, error) from error

    def add(self, name: str, content: str | bytes) -> None:
        """A file by its path below the root of the report."""
        write_file(self.staging, name, content)
        self.names.append(name)

    def publish(self) -> None:
        """Put all files in place, remove those of an earlier report that this one has not, leave all others alone."""
        earlier = _listed(self.path)
        try:
            # First of all the mark: what an interrupted report leaves behind is then known as ours.
            self._mark(sorted({*earlier, *self.names}))
            for name in self.names:
                target = self.path / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.staging / name, target)
            for name in earlier - set(self.names):
                (self.path / name).unlink(missing_ok=True)
            for folder in sorted({(self.path / name).parent for name in earlier}, reverse=True):
                if folder != self.path and folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()
            self._mark(sorted(self.names))
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            self.discard()

    def _mark(self, names: list[str]) -> None:
        write_file(self.staging, MARKER, json.dumps({"report": "lossbench", "files": names}, indent=0) + "\n")
        os.replace(self.staging / MARKER, self.path / MARKER)

    def discard(self) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)


def write_file(root: Path, name: str, content: str | bytes) -> None:
    """One file below `root`, its folders made. Raises SetupError."""
    target = root / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    except OSError as error:
        raise _unwritable(target, error) from error


def _check(path: Path) -> None:
    if path.is_file():
        raise ConfigError(f"{path} is a file", hint="name a folder with --out")
    if not path.is_dir() or (path / MARKER).is_file():
        return
    others = sorted(each.name for each in path.iterdir() if not each.name.startswith(".") and each.name not in _ALLOWED)
    if others:
        some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise ConfigError(
            f"{path} holds other things than a report ({some})",
            hint="name a new or an empty folder, or one that holds an earlier report",
        )


def _listed(path: Path) -> set[str]:
    """The files of an earlier report. Names that lead out of the folder are not believed."""
    try:
        names = json.loads((path / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {
        name
        for name in names
        if isinstance(name, str) and not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts
    }


def _unwritable(path: Path, error: OSError) -> SetupError:
    return SetupError(f"cannot write {path}: {error.strerror or error}", hint=UNWRITABLE_HINT)
