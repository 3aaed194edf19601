"""Provenance: what ran, on what. And its use: telling when a record was made by other code than is here now."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import lossbench
from lossbench.errors import UnknownNameError
from lossbench.plugin import Plugin, syntax_tree
from lossbench.registry import GROUPS, KINDS, Kind, Registry
from lossbench.terms import parts

if TYPE_CHECKING:
    from lossbench.cells import Cell

#: Distributions whose version can change a number.
PACKAGES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy", "pillow", "scipy")
_PACKAGE_ROOT = Path(lossbench.__file__).parent


def collect(
    cell: Cell,
    registries: Mapping[Kind, Registry],
    *,
    data_fingerprint: Mapping[str, str],
    threads: int,
    device: str,
    command: str | Sequence[str],
    suite: str | None,
    started: datetime | None = None,
    finished: datetime | None = None,
    code: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat a run, as plain JSON. Holds no host name and no user name.

    Args:
        data_fingerprint: fingerprint of the data by split.
        threads: CPU threads torch ran with.
        device: torch device, e.g. "cpu" or "cuda:0".
        command: the command line, as text or as arguments.
        suite: name of the suite, if one was run.
        started, finished: aware datetimes; stored in UTC. `finished` defaults to now.
        code: `code_hash` of each plugin as it was when it was imported; by default as its file is now.

    Returns: keys `lossbench`, `protocol`, `code`, `packages`, `hardware`, `os`, `git`, `data`, `command`, `suite`,
        `started`, `finished`. Raises UnknownNameError when a plugin of the cell is not registered.
    """
    if code is None:
        code = {kind: code_hash(registries[kind].get(c.name), c.params) for kind, c in cell.components.items()}
    found = installation()
    return {
        "lossbench": lossbench.__version__,
        "protocol": lossbench.PROTOCOL,
        "code": dict(code),
        "packages": found["packages"],
        "hardware": {**found["cpu"], "threads": threads, "device": device, "gpu": _gpu(device)},
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "git": found["git"],
        "data": dict(data_fingerprint),
        "command": command if isinstance(command, str) else shlex.join(command),
        "suite": suite,
        "started": _utc(started),
        "finished": _utc(finished or datetime.now(UTC)),
    }


class Made(Protocol):
    """What was made by some code: a record, or what many have in common."""

    @property
    def cell(self) -> dict[str, Any]: ...
    @property
    def provenance(self) -> dict[str, Any]: ...


def stale_reasons(record: Made, registries: Mapping[Kind, Registry]) -> list[str]:
    """Why the record's number might come out otherwise today: one line each, empty when nothing changed.

    Compares the engine's PROTOCOL and the code of the three plugins. Imports no plugin.
    """
    reasons = []
    then = record.provenance.get("protocol")
    if then != lossbench.PROTOCOL:
        reasons.append(f"engine PROTOCOL changed since ({_old(then)} -> {lossbench.PROTOCOL})")
    recorded = record.provenance.get("code")
    hashes = recorded if isinstance(recorded, Mapping) else {}
    for kind in KINDS:
        name = record.cell[kind]["name"]
        try:
            now = code_hash(registries[kind].get(name), record.cell[kind].get("params", {}))
        except UnknownNameError as error:  # the plugin, or one of its terms
            unknown = error.message.removeprefix("unknown ")
            reasons.append(f"{unknown} is not known here: give its file with --plugin")
            continue
        if hashes.get(kind) != now:
            reasons.append(f"{kind} '{name}' changed since ({_old(hashes.get(kind))} -> {now[:7]})")
    return reasons


def _old(value: Any) -> str:
    return "unknown" if value is None else str(value)[:7]


# --- code ---


def code_hash(plugin: Plugin, params: Mapping[str, Any] | None = None) -> str:
    """First 12 hex digits of the SHA-256 over the plugin's file and every file it builds on.

    Those are the modules it imports, directly or not, from lossbench's plugin folders and from its own folder
    (e.g. a shared `_functional.py`, or the loss it derives from): a change there can change its number, while a new
    neighbour cannot. Read from the syntax trees, nothing is imported. Line endings do not count.

    Args:
        params: resolved hyper-parameters; the losses they name as terms count, too. Raises UnknownNameError for one
            that is not registered.
    """
    return closure_hash([part.file.resolve() for part in parts(plugin, params or {})])


def closure_hash(starts: Iterable[Path], package: Path = _PACKAGE_ROOT) -> str:
    """`code_hash` of plugins that these files register.

    Args:
        package: the folder of the lossbench whose plugin folders are meant.
    """
    digest = hashlib.sha256()
    files = {file for start in starts for file in _closure(start, package)}
    for file in sorted(files, key=lambda path: (path.name, str(path))):
        digest.update(f"{file.name}\0".encode() + _source(file) + b"\0")
    return digest.hexdigest()[:12]


def own_files(plugin: Path) -> list[Path]:
    """The file of a plugin that is not lossbench's, and those of its own folder that it builds on: what it needs
    elsewhere to have the same hash."""
    return sorted(file for file in _closure(plugin.resolve(), _PACKAGE_ROOT) if not file.is_relative_to(_PACKAGE_ROOT))


def _closure(start: Path, package: Path = _PACKAGE_ROOT) -> set[Path]:
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting.extend(_imports(file, package))
    return seen


def _source(file: Path) -> bytes:
    return file.read_bytes().replace(b"\r\n", b"\n")


def _imports(file: Path, package: Path) -> tuple[Path, ...]:
    stat = file.stat()
    return _parse_imports(file, package, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _parse_imports(file: Path, package: Path, _mtime_ns: int, _size: int) -> tuple[Path, ...]:
    """Files of the plugin folders, or of the file's own folder, that it imports. Keyed by time and size, too."""
    try:
        tree = syntax_tree(file)
    except (SyntaxError, ValueError):
        return ()  # the registry reports it; the hash over the bytes stands all the same
    found = (
        path for node in _statements(tree) for name in _module_names(node) for path in _locate(name, file, package)
    )
    return tuple(sorted(set(found) - {file}))


def _statements(node: ast.AST) -> Iterable[ast.AST]:
    """Every statement at any depth. Expressions hold no import, and are most of a syntax tree."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        inner = getattr(node, field, ())
        for statement in inner if isinstance(inner, list) else ():
            yield statement
            yield from _statements(statement)


def _module_names(node: ast.AST) -> Iterable[str]:
    """Dotted names a statement may import: `from a import b` could mean the module a or the module a.b."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        yield from (f"{base}{'' if base.endswith('.') else '.'}{alias.name}" for alias in node.names)


def _locate(name: str, file: Path, package: Path) -> Iterable[Path]:
    if name in GROUPS.values():
        return  # the folder of a kind as such: its __init__ holds no number
    if any(name.startswith(f"{group}.") for group in GROUPS.values()):
        candidates = [package.parent.joinpath(*name.split("."))]
    else:
        bare = name.lstrip(".")
        level = max(len(name) - len(bare), 1)
        parts = bare.split(".")
        candidates = [file.parents[level - 1].joinpath(*parts)] if bare else []
        if parts[0] == file.parent.name:  # a package that imports from itself by its full name
            candidates.append(file.parent.parent.joinpath(*parts))
    for candidate in candidates:
        for module in (candidate.with_suffix(".py"), candidate / "__init__.py"):
            if module.is_file():
                yield module.resolve()


# --- environment ---


@cache
def installation() -> dict[str, Any]:
    """Versions, processor and git state as this process (or the warm one it was forked from) first saw them: what it
    imported is what runs, whatever happens to the files later."""
    return {"packages": package_versions(), "cpu": _cpu(), "git": git_state(_PACKAGE_ROOT)}


def package_versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that matter, read from their metadata, not imported."""
    import importlib.metadata  # slow, and a leaderboard has no use for it

    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_model(), "cores": usable}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu(device: str) -> dict[str, Any] | None:
    """Name, memory and versions of the CUDA device of the run. Asks torch only if the run imported it."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda") or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(device)
    driver = _driver()
    return {
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 2**30, 1),
        "driver": driver,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


@cache
def _driver() -> str | None:
    lines = (_output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) or "").splitlines()
    return lines[0].strip() if lines else None


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the working tree that holds `folder`, and whether tracked files differ from it.

    None when the folder's own files are not tracked (an installed copy that happens to lie inside a repository).
    """
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    if _output([*git, "ls-files", "--error-unmatch", "__init__.py"]) is None:
        return None
    commit = _output([*git, "rev-parse", "HEAD"])
    changes = _output([*git, "status", "--porcelain", "--untracked-files=no", "--", "."])
    if not commit:
        return None
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _output(command: list[str]) -> str | None:
    """Standard output of a quick command; None when it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")
