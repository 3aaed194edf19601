"""YAML read for people: safe, strict, and every key and value knows its line.

The usual traps are closed: a key given twice is an error naming both lines; `no`, `off`, `yes`, `on` and dates stay
strings (only true and false are booleans); `1e-4` is a float; `010` and `1:30` stay strings instead of turning into
8 and 90; tags are refused; recursive aliases and alias bombs are refused. Scalars follow the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), plus `40_000` for integers and minus hex, octal, .inf and .nan.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lossbench.errors import ConfigError, did_you_mean

#: Where a value sits: keys of mappings and indices of lists, from the top.
YamlPath = tuple[str | int, ...]

_PREFIX = "tag:yaml.org,2002:"
_KNOWN_TAGS = {_PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
_NULL, _BOOL = re.compile(r"(?:~|null|Null|NULL|)\Z"), re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
#: Aliases may repeat values, not multiply them without end.
_MAX_VALUES = 20_000


@dataclass(frozen=True)
class YamlDocument:
    """What a file holds, and the line of every key and value by its path.

    Attributes:
        file: the path as the user gave it, for messages.
        data: plain dicts, lists, strings, ints, floats, bools and None.
        key_lines: 1-based line of the key of each mapping entry (of the dash's value, for a list item).
        value_lines: 1-based line of each value.
    """

    file: Path
    data: Any
    key_lines: Mapping[YamlPath, int] = field(repr=False)
    value_lines: Mapping[YamlPath, int] = field(repr=False)

    def where(self, path: YamlPath = (), *, key: bool = False) -> str:
        """`file:line` of the value (or key) at `path`, or of its nearest ancestor that the file spells out."""
        lines = self.key_lines if key else self.value_lines
        for end in range(len(path), -1, -1):
            line = lines.get(path[:end])
            if line is not None:
                return f"{self.file}:{line}"
        return f"{self.file}:1"


def read_yaml(file: Path) -> YamlDocument:
    """Read `file`. Raises ConfigError (`file:line: cause`) when it cannot be read or is no YAML."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder, not a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from None
    return parse_yaml(text, file)


def parse_yaml(text: str, file: Path) -> YamlDocument:
    """Parse `text`; `file` is for messages only. Raises ConfigError."""
    try:
        loader = _Loader(text)  # the reader checks the characters at once
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{file}: the file is empty")
        builder = _Builder(file)
        data = builder.build(node, ())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, file) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{file}:{line}: character U+{int(error.character):04X} is not allowed") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    return YamlDocument(file, data, builder.key_lines, builder.value_lines)


def scalar_hint(value: Any, wanted: str) -> str | None:
    """A repair for a value of the wrong type that YAML's looks explain, e.g. `no` where a bool was wanted.

    Args:
        value: what the file says.
        wanted: the type's name, in which bool, int, float, list or quoted choices occur.
    """
    if isinstance(value, str):
        text = value.strip()
        if near := did_you_mean(text, re.findall(r"'([^']*)'", wanted)):
            return near
        if "list" in wanted:
            return f"write [{text}]"
        if "bool" in wanted and text.lower() in {"yes", "on", "y"}:
            return f"write true instead of {text}"
        if "bool" in wanted and text.lower() in {"no", "off", "n"}:
            return f"write false instead of {text}"
        if "int" in wanted or "float" in wanted:
            if re.fullmatch(r"[-+]?0[0-9_]+", text):
                return f"write {int(text)}: a number with leading zeros is ambiguous in YAML"
            if re.fullmatch(r"[0-9]+(?::[0-5]?[0-9])+", text):
                return "write a plain number: YAML reads a:b as base 60"
            if _INT.match(text) or _FLOAT.match(text):
                return f"remove the quotes around {text}"
    if isinstance(value, float) and value.is_integer() and "int" in wanted and abs(value) < 1e15:
        return f"write {int(value)}"
    return None


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the resolver of this module; its constructors are never used."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  (PyYAML's own declaration)


for _name, _pattern, _first in (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", re.compile(r"<<\Z"), ["<"]),
):
    _Loader.add_implicit_resolver(_PREFIX + _name, _pattern, _first)


class _Builder:
    """Turns nodes into plain values and notes their lines."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.key_lines: dict[YamlPath, int] = {}
        self.value_lines: dict[YamlPath, int] = {}
        self._open: set[int] = set()
        self._merges = 0

    def build(self, node: Node, path: YamlPath) -> Any:
        self.value_lines[path] = _line(node)
        if path and isinstance(path[-1], int):
            self.key_lines[path] = _line(node)
        if len(self.value_lines) > _MAX_VALUES:
            raise self._error(node, f"more than {_MAX_VALUES} values: aliases that multiply?")
        if node.tag not in _KNOWN_TAGS:
            raise self._error(node, f"tag '{node.tag.replace(_PREFIX, '!!')}' is not supported", "write a plain value")
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            raise self._error(node, "an alias contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return {key: self._entry(key_node, value, (*path, key)) for key, key_node, value in self._entries(node)}
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _entry(self, key_node: Node, value: Node, path: YamlPath) -> Any:
        self.key_lines[path] = _line(key_node)
        return self.build(value, path)

    def _entries(self, node: MappingNode, depth: int = 0) -> Iterator[tuple[str | int, Node, Node]]:
        """(key, its node, its value) with merge keys (<<) filled in; what is spelled out wins."""
        own: dict[str | int, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key_node, value in node.value:
            if key_node.tag == _PREFIX + "merge":
                merged.extend(value.value if isinstance(value, SequenceNode) else [value])
                continue
            key = self._scalar(key_node) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str | int) or isinstance(key, bool):
                raise self._error(key_node, "a key must be text", "quote it")
            if key in own:
                raise self._error(
                    key_node,
                    f"'{key}' is given twice, first on line {_line(own[key][0])}",
                    "keep one of them",
                )
            own[key] = (key_node, value)
        for source in merged:
            self._merges += 1
            if not isinstance(source, MappingNode) or depth > 20 or self._merges > 1000:
                raise self._error(source, "<< merges a mapping or a list of mappings")
            for key, key_node, value in self._entries(source, depth + 1):
                own.setdefault(key, (key_node, value))
        for key, (key_node, value) in own.items():
            yield key, key_node, value

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        kind = node.tag.removeprefix(_PREFIX)
        if kind == "null":
            return None
        if kind == "bool" and _BOOL.match(text):
            return text.lower() == "true"
        if kind == "int" and _INT.match(text) and len(text) < 4000:  # Python's limit of int() is 4300 digits
            return int(text)
        if kind == "float" and _FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        if kind in ("str", "merge"):
            return text
        raise self._error(node, f"'{text[:40]}' is not a valid {kind}")

    def _error(self, node: Node, message: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self.file}:{_line(node)}: {message}", hint=hint)


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


# What PyYAML says, and what it means. The first that occurs in its message is used.
_PLAIN_WORDS = (
    (
        r"cannot start any token",
        "a value cannot start with {char}",
        "quote it",
    ),
    (r"mapping values are not allowed", "unexpected ':'", "check the indentation, or quote a value that contains ': '"),
    (r"could not find expected ':'", "expected 'key: value'", "is a ':' or a space after it missing?"),
    (r"found unexpected end of stream", "a quote is never closed", "close the quote that opens here"),
    (r"expected ',' or '\]'", "a '[' is never closed", "close the list that opens here with ']'"),
    (r"expected ',' or '\}'", "a '{{' is never closed", "close the mapping that opens here with '}'"),
    (
        r"expected <block end>",
        "the indentation does not fit the lines above",
        "align it with its siblings, or check quotes and brackets",
    ),
    (r"expected the node content", "unexpected {quoted}", "quote it, or remove it"),
    (
        r"unindent|block sequence entries are not allowed|sequence entries",
        "a list item ('- ') is not expected here",
        "put the list on its own lines below its key",
    ),
    (r"found undefined alias", "the alias {quoted} has no anchor", "define it before with &name"),
    (r"found another document", "a second document ('---') starts here", "one document a file"),
    (
        r"unknown escape character",
        "unknown escape in a double-quoted string",
        "use single quotes, or double the backslash",
    ),
)


def _syntax_error(error: yaml.MarkedYAMLError, file: Path) -> ConfigError:
    problem = error.problem or "not valid YAML"
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    character = re.search(r"found character '(.*?)' that", problem)
    if character and character[1] in ("\\t", "\t"):
        return ConfigError(f"{file}:{line}: a tab is used for indentation", hint="indent with spaces")
    for pattern, words, hint in _PLAIN_WORDS:
        if re.search(pattern, problem):
            # What is never closed is found at its end; the user needs the place where it opens.
            if "never closed" in words and error.context_mark:
                line = error.context_mark.line + 1
            quoted = re.search(r"'.*'", problem)
            char = f"'{character[1]}'" if character else "this character"
            return ConfigError(
                f"{file}:{line}: {words.format(char=char, quoted=quoted[0] if quoted else '')}", hint=hint
            )
    return ConfigError(f"{file}:{line}: {problem}")
