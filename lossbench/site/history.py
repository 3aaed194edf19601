"""When, on which hardware and by which code the runs of a report were made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lossbench.signatures import KINDS
from lossbench.site.model import Site

_VERSIONS = ("python", "torch", "timm", "segmentation-models-pytorch", "numpy")


@dataclass(frozen=True)
class Setting:
    """Runs of one machine and one set of versions: number, first and last day."""

    machine: str
    versions: str
    commit: str
    runs: int
    first: str
    last: str


@dataclass(frozen=True)
class Code:
    """A plugin's code as runs have recorded it; `stale` reasons where it is another here now."""

    kind: str
    name: str
    hash: str
    runs: int
    stale: list[str]


def settings(facts: Iterable[Mapping[str, Any]]) -> list[Setting]:
    """Of the provenances that were read, the commonest first."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for each in facts:
        groups[_machine(each), _versions(each), _commit(each)].append(each)
    found = []
    for (machine, versions, commit), members in groups.items():
        days = sorted(
            day for each in members for key in ("started", "finished") if (day := str(each.get(key) or "")[:10])
        )
        found.append(
            Setting(machine, versions, commit, len(members), days[0] if days else "", days[-1] if days else "")
        )
    return sorted(found, key=lambda each: (-each.runs, each.machine, each.versions, each.commit))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _machine(facts: Mapping[str, Any]) -> str:
    hardware = _mapping(facts.get("hardware"))
    gpu = _mapping(hardware.get("gpu")).get("name")
    cpu = f"{hardware.get('cpu') or 'unknown processor'}"
    threads = f", {hardware['threads']} thread{'s' * (hardware['threads'] != 1)}" if hardware.get("threads") else ""
    return f"{gpu}; {cpu}{threads}" if gpu else f"{cpu}{threads}, no GPU"


def _versions(facts: Mapping[str, Any]) -> str:
    packages = _mapping(facts.get("packages"))
    parts = [f"lossbench {facts.get('lossbench') or 'unknown'}", f"engine protocol {facts.get('protocol')}"]
    return ", ".join([*parts, *(f"{name} {packages[name]}" for name in _VERSIONS if name in packages)])


def _commit(facts: Mapping[str, Any]) -> str:
    git = _mapping(facts.get("git"))
    commit = str(git.get("commit") or "")[:10]
    return f"{commit} with changes" if commit and git.get("dirty") else commit


def code(site: Site) -> list[Code]:
    """Every version of every plugin's code among the runs."""
    runs: dict[tuple[str, str, str], int] = defaultdict(int)
    stale: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for board in site.boards:
        for part in board.block.parts:
            hashes = _mapping(part.condition.provenance.get("code"))
            for kind in KINDS:
                name = str(part.condition.cell[kind]["name"])
                key = (kind, name, str(hashes.get(kind) or "unknown"))
                runs[key] += len(part.rows)
                for reason in part.stale:
                    if f"{kind} '{name}'" in reason:
                        stale[key][reason] = None
    return [Code(*key, runs[key], list(stale[key])) for key in sorted(runs)]
