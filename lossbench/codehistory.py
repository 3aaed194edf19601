"""The hashes that the code of our plugins ever had, from git.

`python -m lossbench.codehistory` writes code_history.json; run it before a release. `lossbench verify` takes records
that were made by any of this code. Files are read, and none is run.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from pathlib import Path

from lossbench.errors import LossbenchError
from lossbench.plugin import scan_file
from lossbench.provenance import closure_hash
from lossbench.registry import GROUPS
from lossbench.untar import extract

FILE = Path(__file__).with_name("code_history.json")


def hashes_of(package: Path) -> dict[tuple[str, str], str]:
    """(kind, name) -> hash of each plugin in the folder of a lossbench. Those made of other losses are left out: their
    hash depends on which."""
    found: dict[tuple[str, str], str] = {}
    for group in GROUPS.values():
        for file in sorted((package / group.rpartition(".")[2]).glob("*.py")):
            if file.name.startswith("_"):
                continue
            try:
                plugins = scan_file(file, f"{group}.{file.stem}")
            except LossbenchError:
                continue
            for plugin in plugins:
                if not plugin.term_parameters:
                    found[plugin.kind, plugin.name] = closure_hash([file.resolve()], package.resolve())
    return found


def from_git(repository: Path) -> dict[str, dict[str, list[str]]]:
    """Of every commit that HEAD comes from."""
    folders = [group.replace(".", "/") for group in GROUPS.values()]
    commits = _git(repository, "log", "--format=%H", "HEAD", "--", *folders).decode().split()
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for commit in commits:
        with tempfile.TemporaryDirectory() as folder:
            # Only folders that the commit has: `git archive` takes no others.
            there = [name for name in folders if _git(repository, "ls-tree", "-d", commit, "--", name)]
            if not there:
                continue
            with tarfile.open(fileobj=io.BytesIO(_git(repository, "archive", commit, "--", *there))) as archive:
                extract(archive, Path(folder))
            for (kind, name), digest in hashes_of(Path(folder, "lossbench")).items():
                found[kind][name].add(digest)
    return {kind: {name: sorted(found[kind][name]) for name in sorted(found[kind])} for kind in sorted(found)}


def _git(repository: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(repository), *arguments], check=True, capture_output=True).stdout


if __name__ == "__main__":
    FILE.write_text(json.dumps(from_git(FILE.parents[1]), indent=1) + "\n", encoding="utf-8")
