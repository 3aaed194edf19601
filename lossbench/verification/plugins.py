"""Plugin files handed in with records, in `<results>/plugins/`: read for their hash, never imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lossbench.errors import LossbenchError
from lossbench.plugin import scan_file
from lossbench.registry import KINDS, Kind, Registry, all_registries
from lossbench.verification.problems import Problem

FOLDER = "plugins"
_MOST_BYTES = 2**20


def known_plugins(results: Path, plugins: Sequence[Path] = ()) -> tuple[dict[Kind, Registry], list[Problem]]:
    """The registries with the plugins that a user names and those beside the records; and what is wrong with these.
    Raises ConfigError for what is wrong with those."""
    registries: Mapping[Kind, Registry] = all_registries(plugins)
    taken = {(kind, plugin.name) for kind in KINDS for plugin in registries[kind]}
    named = {file.resolve() for file in plugins}
    found: list[Path] = []
    problems: list[Problem] = []
    folder = results / FOLDER
    files = sorted(folder.rglob("*")) if folder.is_dir() and not folder.is_symlink() else []
    for file in files:
        if file.parent != folder or file.suffix != ".py":
            if (
                file.suffix != ".py"
                and not (file.is_dir() and not file.is_symlink())
                and "__pycache__" not in file.parts
            ):
                name = file.relative_to(folder).as_posix()
                problems.append(Problem("file", f"{FOLDER}/{name}", "no Python file"))
            continue
        if file.resolve() in named:
            continue
        try:
            if file.is_symlink() or not file.is_file() or file.stat().st_size > _MOST_BYTES:
                raise LossbenchError("is no regular file of at most 1 MiB")
            registered = {(plugin.kind, plugin.name) for plugin in scan_file(file, None)}
            if registered & taken:
                raise LossbenchError(f"registers '{sorted(registered & taken)[0][1]}', which is taken")
        except (LossbenchError, OSError, RecursionError, MemoryError) as error:
            said = str(error).replace(str(folder), FOLDER)[:160]
            problems.append(Problem("code", f"{FOLDER}/{file.name}", said or type(error).__name__))
            continue
        if registered:  # else it is a module that another one imports
            taken |= registered
            found.append(file)
    return all_registries([*plugins, *found]), problems
