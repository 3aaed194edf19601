"""All rules on a results folder, or on what was added to it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossbench.errors import ConfigError
from lossbench.foreign import records_folder
from lossbench.index import read_table
from lossbench.registry import Kind, Registry
from lossbench.runtable import RunTable
from lossbench.scan import STAMP, Scan
from lossbench.spread import spread
from lossbench.verification import stamps
from lossbench.verification.across import check_across
from lossbench.verification.changes import Changes
from lossbench.verification.code import check_code
from lossbench.verification.facts import Facts, joined, of_table
from lossbench.verification.one import verify_files
from lossbench.verification.plugins import known_plugins
from lossbench.verification.problems import RULES, Problem
from lossbench.verification.tree import Tree, look

#: Records that keep a process busy for some times what it takes to start.
_SHARE = 1000
#: Records that were there before, of which the images are read, for each data set and split.
_WITNESSES = 3


@dataclass(frozen=True)
class Report:
    """What came out. `checked` records of `total`; `read` of them were read, the others are as they were when they were
    found in order; `older` were made by plugin code that is known, but not of now. `added`: paths of records that the
    report is about, below the results folder; None: of all."""

    total: int
    checked: int
    read: int
    older: int
    problems: list[Problem]
    added: list[str] | None = None

    @property
    def errors(self) -> int:
        return sum(not problem.warning for problem in self.problems)

    @property
    def warnings(self) -> int:
        return sum(problem.warning for problem in self.problems)

    def by_rule(self) -> dict[str, tuple[int, int]]:
        """(errors, warnings) of every rule."""
        counts = Counter((problem.rule, problem.warning) for problem in self.problems)
        return {rule: (counts[rule, False], counts[rule, True]) for rule in RULES}


def verify_all(results: Path, plugins: Sequence[Path] = (), cache: Path | None = None) -> Report:
    """Every record of a results folder.

    Args:
        plugins: files of plugins, beside those in `results / plugins`.
        cache: folder that may remember which records were in order; None: all are read.

    Raises ConfigError when it is no results folder. Whatever lies in it raises nothing.
    """
    folder, started = records_folder(results), time.time_ns()
    tree = look(str(folder))
    known = stamps.load(folder, cache) if cache is not None else None
    facts, rest = _unchanged(tree, known)
    parts: list[tuple[Facts, list[Problem]]] = spread(
        "lossbench.verification.one:verify_files", str(results), [tree.paths[place] for place in rest], _SHARE
    )
    single = [problem for _, problems in parts for problem in problems]
    facts = joined([facts, *(part for part, _ in parts)])
    if cache is not None and rest:
        _remember(folder, cache, tree, facts, single, started)
    told = np.ones(len(facts), dtype=bool)
    problems = [*tree.problems, *single, *check_across(facts, told, lambda path: f"{folder}/{path}")]
    registries, wrong = known_plugins(results, plugins)
    on_code, older = check_code(facts, told, registries)
    problems += wrong
    return Report(len(tree.paths), len(tree.paths), len(rest), older, _sorted([*problems, *on_code]))


def _unchanged(tree: Tree, known: tuple[Facts, NDArray[np.int64]] | None) -> tuple[Facts, list[int]]:
    """The facts of files that are as they were, and where in the tree the others are."""
    if known is None:
        return joined([]), list(range(len(tree.paths)))
    facts, were = known
    at = dict(zip(facts.paths, range(len(facts)), strict=True))
    old = np.array([at.get(path, -1) for path in tree.paths], dtype=np.int64)
    same = (old >= 0) & (tree.stamps[:, STAMP:].any(axis=1))
    same[same] = (were[old[same]] == tree.stamps[same]).all(axis=1)
    return facts.take(old[same]), np.flatnonzero(~same).tolist()


def _remember(folder: Path, cache: Path, tree: Tree, facts: Facts, single: Iterable[Problem], started: int) -> None:
    wrong = {problem.path.removeprefix("records/") for problem in single}
    at = dict(zip(tree.paths, range(len(tree.paths)), strict=True))
    sound = np.array([place for place, path in enumerate(facts.paths) if path not in wrong], dtype=np.int64)
    rows = np.array([at[facts.paths[place]] for place in sound.tolist()], dtype=np.int64)
    stamps.save(folder, cache, facts.take(sound), tree.stamps[rows], started)


def verify_changes(
    results: Path,
    changes: Changes,
    plugins: Sequence[Path] = (),
    cache: Path | None = None,
    *,
    allow_changes: bool = False,
) -> Report:
    """Only what a branch changes; the other records are taken as they are, and compared with.

    Args:
        cache: folder that may hold the leaderboard's index.
        allow_changes: changed and deleted records are warnings.

    Raises ConfigError when it is no results folder.
    """
    folder = records_folder(results)
    problems = [
        Problem("change", path, f"{word} by this change", allow_changes)
        for word, paths in (("changed", changes.changed), ("deleted", changes.deleted))
        for path in paths
    ]
    touched = {path.removeprefix("records/") for path in (*changes.added, *changes.changed)}
    # Counts may be changed alone: their record is then verified with them.
    mine = {_record_of(path) for path in (*touched, *(path.removeprefix("records/") for path in changes.deleted))}
    tree = look(str(folder))
    concerns = touched | mine
    problems += [p for p in tree.problems if _touches(p.path.removeprefix("records/"), concerns)]
    paths = [path for path in tree.paths if path in mine]
    others = [place for place, path in enumerate(tree.paths) if path not in mine]
    found = Scan([tree.paths[place] for place in others], tree.stamps[others, :STAMP])
    table, _ = read_table(folder, cache, "checked", found)
    checked, single = verify_files(str(results), paths)
    problems += single
    registries, wrong = known_plugins(results, plugins)
    older = _beside(table, results, checked, results, registries, problems)
    shown = [f"records/{path}" for path in paths]
    return Report(len(tree.paths), len(paths), len(paths), older, _sorted([*problems, *wrong]), shown)


def verify_new(staged: Path, target: Path, plugins: Sequence[Path] = (), cache: Path | None = None) -> Report:
    """The records of one results folder, as if they were added to another, which has none of their cells."""
    tree = look(str(records_folder(staged)))
    checked, problems = verify_files(str(staged), tree.paths)
    problems += tree.problems
    known = look(str(target / "records"))
    found = Scan(known.paths, known.stamps[:, :STAMP])
    table, _ = read_table(target / "records", cache, "checked", found)
    registries, wrong = known_plugins(target, plugins)
    older = _beside(table, target, checked, staged, registries, problems)
    shown = [f"records/{path}" for path in tree.paths]
    total = len(table) + len(shown)
    return Report(total, len(shown), len(shown), older, _sorted([*problems, *wrong]), shown)


def _beside(
    table: RunTable,
    before: Path,
    checked: Facts,
    now: Path,
    registries: Mapping[Kind, Registry],
    problems: list[Problem],
) -> int:
    """Add what is wrong with records of the results folder `now` beside those of `before`; how many are of older
    code."""
    facts = joined([_with_images(of_table(table), checked, str(before)), checked])
    told = np.arange(len(facts)) >= len(table)
    mine = set(checked.paths)
    problems += check_across(facts, told, lambda path: f"{now if path in mine else before}/records/{path}")
    on_code, older = check_code(facts, told, registries)
    problems += on_code
    return older


def _record_of(path: str) -> str:
    return path.removesuffix(".npz") + ".json" if path.endswith(".npz") else path


def _touches(problem: str, concerns: set[str]) -> bool:
    """Whether a problem of the tree is one of these files, or of a folder that holds one."""
    return problem in concerns or (problem.endswith("/") and any(path.startswith(problem) for path in concerns))


def _with_images(before: Facts, checked: Facts, results: str) -> Facts:
    """The facts of a table with the images of some records for each of what was scored now."""
    places = []
    for text in {checked.texts[place] for place in checked.rows["scored"].tolist()}:
        if text in before.texts:
            places += np.flatnonzero(before.rows["scored"] == before.texts.index(text))[:_WITNESSES].tolist()
    seen, _ = verify_files(results, [before.paths[place] for place in places])
    images = dict(zip(seen.paths, seen.rows["images"].tolist(), strict=True))
    for place in places:
        before.rows["images"][place] = images.get(before.paths[place], 0)
    return before


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    """By rule, then by path."""
    order = {rule: place for place, rule in enumerate(RULES)}
    return sorted(problems, key=lambda problem: (problem.warning, order[problem.rule], problem.path, problem.message))


def relative_to(results: Path, files: Iterable[Path]) -> list[str]:
    """Files that a user names, as paths below the results folder. Raises ConfigError for one outside."""
    found = []
    for file in files:
        path = os.path.relpath(os.path.abspath(file), os.path.abspath(results)).replace(os.sep, "/")
        if not path.startswith("records/"):
            raise ConfigError(f"{file} is not below {results / 'records'}", hint="name records of the folder")
        if not os.path.lexists(file):
            raise ConfigError(f"{file}: no such file", hint="name records of the folder")
        found.append(path)
    return found
