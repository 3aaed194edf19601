"""A cell: one (dataset, backbone, loss, seed) with its resolved protocol. The unit of work, identity and failure."""

from __future__ import annotations

import hashlib
import json
import marshal
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.signatures import Kind
from lossbench.terms import is_terms

if TYPE_CHECKING:
    from lossbench.protocol import Protocol


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_identity_of)


def short_hash(value: Any) -> str:
    """16 hex digits (64 bits) of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def identity_hash(identity: Mapping[str, Any]) -> str:
    """`short_hash` of a `Cell.identity` that was read from JSON; what its seeds share is made canonical once."""
    rest = {key: value for key, value in identity.items() if key != "seed"}
    seed = identity["seed"]
    if type(seed) is not int or not rest or max(rest) > "seed":
        return short_hash(identity)
    # "seed" is the last key of the canonical text.
    text = f'{canonical_again(rest)[:-1]},"seed":{seed}}}'
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical_again(value: Any) -> str:
    """`canonical_json` of plain values that come again and again, as a protocol does from record to record."""
    # Version 2 of marshal has no references: equal bytes are equal values.
    return _canonical_rest(marshal.dumps(value, 2))


@lru_cache(maxsize=4096)
def _canonical_rest(marshalled: bytes) -> str:
    return canonical_json(marshal.loads(marshalled))


def _identity_of(value: Any) -> Any:
    """Where a file lies is not identity; what is in it is. A folder is a mere location."""
    if isinstance(value, Path):
        try:
            stat = value.stat()
        except OSError:
            return None
        return _content_hash(value, stat.st_mtime_ns, stat.st_size) if value.is_file() else None
    raise TypeError(f"{type(value).__name__} has no place in a cell's identity")


@lru_cache(maxsize=64)
def _content_hash(file: Path, mtime_ns: int, size: int) -> str:
    """Hash of a file; read once while it does not change, for it may be a network's weights."""
    return "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Component:
    """A plugin by name with all its hyper-parameters resolved, and those that its suite spelled out.

    `given` is presentation only (what to print in a table) and no part of the identity.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """`focal`, or `focal(gamma=5)` when parameters were given; a `title` among them stands for all."""
        if "title" in self.given:
            return str(self.params["title"])
        parts = [self._shown(key, self.params[key]) for key in self.given if key in self.params]
        return f"{self.name}({', '.join(parts)})" if parts else self.name

    def _shown(self, key: str, value: Any) -> str:
        """`gamma=5`; terms as a sum, `0.8 ce + 0.2 focal(gamma=5)`, with what was given of each as `key.index.name`."""
        if not is_terms(value):
            return f"{key}={short_text(value)}"
        shown = []
        for index, term in enumerate(value):
            prefix = f"{key}.{index}."
            given = tuple(name.removeprefix(prefix) for name in self.given if name.startswith(prefix))
            shown.append(f"{short_text(float(term['weight']))} {Component(term['name'], term, given).label}")
        return " + ".join(shown)

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "params": json.loads(canonical_json(dict(self.params)))}

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "params": _written(dict(self.params)), "given": list(self.given)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Component:
        params = {key: _read(value) for key, value in data["params"].items()}
        return cls(data["name"], params, tuple(data.get("given", ())))


def _written(value: Any) -> Any:
    """A path as {"path": text}: it must come back as one, or its text would become part of the identity."""
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, dict):
        return {key: _written(item) for key, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


def _read(value: Any) -> Any:
    """What `_written` made, as it was."""
    if isinstance(value, dict):
        if value.keys() == {"path"}:
            return Path(value["path"])
        return {key: _read(item) for key, item in value.items()}
    return [_read(item) for item in value] if isinstance(value, list) else value


def short_text(value: Any) -> str:
    """A parameter's value as a label shows it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Path):
        return value.name
    if isinstance(value, list):
        text = ",".join(short_text(item) for item in value)
        return f"[{text}]" if len(text) <= 24 else f"[{len(value)} values]"
    return str(value)


@dataclass(frozen=True)
class Cell:
    dataset: Component
    backbone: Component
    loss: Component
    seed: int
    protocol: Protocol
    #: What tells a trial or a tuned cell from others of its path, for people: presentation only.
    note: str = field(default="", compare=False)

    @property
    def components(self) -> dict[Kind, Component]:
        """The plugins by kind."""
        return {"dataset": self.dataset, "backbone": self.backbone, "loss": self.loss}

    @property
    def path(self) -> str:
        """What `overrides:` and `exclude:` globs match: dataset/backbone/loss/seed0."""
        return f"{self.dataset.label}/{self.backbone.label}/{self.loss.label}/seed{self.seed}"

    @property
    def name(self) -> str:
        """Human name: the path and the note."""
        return f"{self.path} {self.note}" if self.note else self.path

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.identity,
            "backbone": self.backbone.identity,
            "loss": self.loss.identity,
            "seed": self.seed,
            "protocol": self.protocol.identity(),
        }

    @cached_property
    def id(self) -> str:
        """Hash of everything that defines the number this cell produces (executors and paths do not)."""
        return short_hash(self.identity)

    @property
    def fairness_key(self) -> str:
        """What initial weights, sample order, crops and flips derive from: everything but the loss, so that
        competitors run on common random numbers and compare in pairs."""
        identity = self.identity
        return canonical_json([identity["dataset"], identity["backbone"]["name"], self.seed])

    def to_json(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset.to_json(),
            "backbone": self.backbone.to_json(),
            "loss": self.loss.to_json(),
            "seed": self.seed,
            "protocol": self.protocol.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        from lossbench.protocol import Protocol  # brings pydantic, which readers of records do without

        return cls(
            dataset=Component.from_json(data["dataset"]),
            backbone=Component.from_json(data["backbone"]),
            loss=Component.from_json(data["loss"]),
            seed=data["seed"],
            protocol=Protocol.model_validate(data["protocol"]),
        )
