"""New records on their way into a pull request: gathered, verified beside those that are there, and put in place."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossbench import files
from lossbench.errors import UNWRITABLE_HINT, ConfigError, RecordError, SetupError
from lossbench.foreign import read_regular, records_folder
from lossbench.merge import merge
from lossbench.plugin import scan_file
from lossbench.provenance import own_files
from lossbench.records import Record
from lossbench.signatures import KINDS
from lossbench.store import Store
from lossbench.verification.one import MOST_JSON, MOST_SIDECAR
from lossbench.verification.plugins import FOLDER
from lossbench.verification.privacy import redacted
from lossbench.verification.tree import look


@dataclass
class Gathered:
    """New records, staged in a results folder of their own: their paths below `records`, those that can be read, and
    how many of the others the target has."""

    folder: Path
    paths: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    known: int = 0


def gather(source: Path, target: Path, staging: Path, *, redact: bool = False) -> Gathered:
    """Copy the records of `source` that `target` lacks into an empty folder, by what their files are called.

    Args:
        redact: without paths, users and hosts (see privacy.py).

    Raises ConfigError when the folders are none, or one; SetupError when a file cannot be copied.
    """
    folder = records_folder(source)
    if target.exists() and os.path.samefile(source, target):
        raise ConfigError(
            f"{source} is the target itself", hint="run into another results folder, or add the files with git"
        )
    there = set(look(str(target / "records")).paths) if (target / "records").is_dir() else set()
    gathered = Gathered(staging)
    (staging / "records").mkdir(parents=True, exist_ok=True)
    for path in look(str(folder)).paths:
        if path in there:
            gathered.known += 1
            continue
        record = _stage(folder / path, staging / "records" / path, redact)
        gathered.paths.append(path)
        if record is not None:
            gathered.records.append(record)
    return gathered


def _stage(source: Path, target: Path, redact: bool) -> Record | None:
    """Copy a record and its counts. One that cannot be read is copied as it is: verifying it says what is wrong."""
    try:
        text = read_regular(source, MOST_JSON)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            record = Record.from_json(text)
        except RecordError:
            record = None
        if record is not None and redact:
            record = redacted(record)
            text = record.to_json().encode()
        target.write_bytes(text)
        sidecar = source.with_suffix(".npz")
        if sidecar.exists():
            target.with_suffix(".npz").write_bytes(read_regular(sidecar, MOST_SIDECAR))
    except OSError as error:
        raise SetupError(f"cannot copy {source}: {error.strerror or error}", hint=UNWRITABLE_HINT) from error
    except RecordError as error:
        raise ConfigError(f"{source}: {error.message}") from None
    return record


def plugin_files(plugins: Sequence[Path], records: Sequence[Record]) -> dict[str, Path]:
    """The files that the plugins of these records need beside them, by their path below the folder of plugins. Raises
    ConfigError when two of one name differ."""
    used = {(kind, record.cell[kind]["name"]) for record in records for kind in KINDS}
    found: dict[str, Path] = {}
    for plugin in plugins:
        if not any((item.kind, item.name) in used for item in scan_file(plugin, None)):
            continue
        for file in own_files(plugin):
            name = os.path.relpath(file, plugin.resolve().parent).replace(os.sep, "/")
            if name.startswith("../"):
                raise ConfigError(f"{plugin} builds on {file}, which lies outside of its folder", hint="move it there")
            if name in found and found[name].read_bytes() != file.read_bytes():
                raise ConfigError(f"{file} and {found[name]} are two plugins of one name", hint="rename one")
            found[name] = file
    return found


def put_in_place(gathered: Gathered, target: Path, plugins: dict[str, Path]) -> list[str]:
    """Copy staged records, and files of plugins, into the target; returns what is new there, below it. Nothing is
    overwritten. Raises SetupError, ConfigError."""
    for name, file in plugins.items():
        place = target / FOLDER / name
        if place.exists() and place.read_bytes() != file.read_bytes():
            raise ConfigError(f"{place} is there, and is another file than {file}", hint="rename your plugin's file")
    (merged,) = merge(Store(target), [gathered.folder])
    if merged.different or merged.skipped:
        raise ConfigError(f"{len(merged.different) + len(merged.skipped)} records came into {target} meanwhile")
    added = [f"records/{path}" for path in gathered.paths]
    added += [str(Path(path).with_suffix(".npz")).replace(os.sep, "/") for path in added]
    for name, file in plugins.items():
        place = target / FOLDER / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            files.replace(place, file.read_bytes())
        except OSError as error:
            raise SetupError(f"cannot write {place}: {error.strerror or error}", hint=UNWRITABLE_HINT) from error
        added.append(f"{FOLDER}/{name}")
    return added


# --- a branch ---


def check_branch(target: Path, name: str) -> None:
    """Raises ConfigError when no branch of this name can be made for the target."""
    if shutil.which("git") is None:
        raise SetupError("git is not installed", hint="leave --branch out, and copy the folder into your clone")
    folder = target if target.is_dir() else target.parent
    if name.startswith("-") or _git(folder, "check-ref-format", "--branch", name).returncode:
        raise ConfigError(f"'{name}' is no name of a branch")
    if _git(folder, "rev-parse", "--is-inside-work-tree").returncode:
        raise ConfigError(f"{target} is in no clone of a git repository", hint="name its results folder with --to")
    if not _git(folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{name}").returncode:
        raise ConfigError(f"there is a branch '{name}' already", hint="choose another name")
    if _git(folder, "diff", "--cached", "--quiet").returncode:
        raise ConfigError("something is staged in this clone, and would be committed, too", hint="commit it first")


def commit(target: Path, name: str, paths: Sequence[str], message: str) -> None:
    """Make a branch from what is checked out, and commit these paths, below the target, on it. Raises SetupError."""
    _must(target, "switch", "--create", name)
    listed = "\0".join(paths)
    _must(target, "add", "--pathspec-from-file=-", "--pathspec-file-nul", stdin=listed)
    _must(target, "commit", "--quiet", "--message", message)


def _must(folder: Path, *arguments: str, stdin: str = "") -> None:
    done = _git(folder, *arguments, stdin=stdin)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SetupError(f"git {arguments[0]} fails: {said[-1] if said else done.returncode}", hint="see `git status`")


def _git(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = ["git", "-C", str(folder), "--literal-pathspecs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, errors="replace")
