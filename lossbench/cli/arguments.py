"""What a verb's parameters are called on the command line, declared without importing Typer, and read without it.

A verb's signature is the only declaration: `Annotated[Path, Option("--results", help=...)]`. Typer reads it, too (see
typed.py), for help, completion of every form, and for what is wrong with a command line. But importing Typer takes
longer than most verbs; so a plain command line is read here, and anything unusual is left to Typer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin


@dataclass(frozen=True, init=False)
class Option:
    """`--name`; the names, and further keywords of `typer.Option`. Without names: `--` and that of the parameter."""

    names: tuple[str, ...]
    more: Mapping[str, Any]

    def __init__(self, *names: str, **more: Any) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "more", more)


@dataclass(frozen=True, init=False)
class Argument:
    """A positional argument; keywords of `typer.Argument`."""

    more: Mapping[str, Any]

    def __init__(self, **more: Any) -> None:
        object.__setattr__(self, "more", more)


#: Keywords that change nothing in how a value is read, or whose rule `_value` and `_default` know.
_UNDERSTOOD = {"help", "metavar", "show_default", "show_envvar", "envvar", "dir_okay"}


class _Unusual(Exception):
    """Left to Typer."""


@dataclass(frozen=True)
class _Parameter:
    name: str
    type: Any
    many: bool
    declared: Option | Argument
    default: Any

    @property
    def names(self) -> tuple[str, ...]:
        assert isinstance(self.declared, Option)
        return self.declared.names or ("--" + self.name.replace("_", "-"),)


def parse(function: Callable[..., Any], words: Sequence[str]) -> dict[str, Any] | None:
    """The keyword arguments of a verb's function for a plain command line, or None: let Typer read it.

    Plain are `--name value`, `--name=value`, flags, and positional arguments, each given once (lists aside), of the
    types that verbs use.
    """
    try:
        return _parse(_parameters(function), words)
    except _Unusual:
        return None


def _parse(parameters: Sequence[_Parameter], words: Sequence[str]) -> dict[str, Any]:
    options = {name: p for p in parameters if isinstance(p.declared, Option) for name in p.names}
    positional = [p for p in parameters if isinstance(p.declared, Argument)]
    given: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if not word.startswith("-"):
            if not positional:
                raise _Unusual
            parameter, value = positional.pop(0), word
        elif name not in options or (equals and options[name].type is bool):
            raise _Unusual
        else:
            parameter = options[name]
            if not equals and parameter.type is not bool:
                value = next(waiting, "")
                if value.startswith("-"):
                    raise _Unusual
        if parameter.many:
            given.setdefault(parameter.name, []).append(_value(parameter, value))
        elif parameter.name in given:
            raise _Unusual
        else:
            given[parameter.name] = parameter.type is bool or _value(parameter, value)
    return {p.name: given[p.name] if p.name in given else _default(p) for p in parameters}


def _parameters(function: Callable[..., Any]) -> list[_Parameter]:
    found = []
    for parameter in signature(function, eval_str=True).parameters.values():
        declared = next(
            (m for m in getattr(parameter.annotation, "__metadata__", ()) if isinstance(m, Option | Argument)), None
        )
        if declared is None or not declared.more.keys() <= _UNDERSTOOD:
            raise _Unusual
        kind = get_args(parameter.annotation)[0]
        if get_origin(kind) is UnionType:
            kind = next(option for option in get_args(kind) if option is not NoneType)
        many = get_origin(kind) is list
        if many:
            (kind,) = get_args(kind)
        if kind is bool and isinstance(declared, Option) and not declared.names:
            raise _Unusual  # Typer gives it a --no- form
        found.append(_Parameter(parameter.name, kind, many, declared, parameter.default))
    return found


def _value(parameter: _Parameter, text: str) -> Any:
    kind = parameter.type
    if not text:
        raise _Unusual
    if kind is str:
        return text
    if kind is Path:
        if not parameter.declared.more.get("dir_okay", True) and os.path.isdir(text):
            raise _Unusual
        return Path(text)
    if isinstance(kind, type) and issubclass(kind, Enum) and text in {member.value for member in kind}:
        return kind(text)
    if kind is int and re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    if kind is float and re.fullmatch(r"[0-9]{1,9}|[0-9]{0,9}\.[0-9]{1,9}", text):
        return float(text)
    raise _Unusual


def _default(parameter: _Parameter) -> Any:
    variable = parameter.declared.more.get("envvar")
    if variable and os.environ.get(variable):
        return _value(parameter, os.environ[variable])
    if parameter.default is Parameter.empty:
        raise _Unusual
    return parameter.default


def is_declared(annotation: Any) -> bool:
    """Whether an annotation is `Annotated[...]` with an Option or Argument of this module."""
    return get_origin(annotation) is Annotated and any(
        isinstance(item, Option | Argument) for item in annotation.__metadata__
    )
