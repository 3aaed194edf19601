"""Reading plugins without importing them: which names a file registers, and the typed signature of each.

The syntax tree says nearly everything; `inspect_signature` is for what it cannot: a signature that is computed.
"""

from __future__ import annotations

import ast
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from lossbench.errors import ConfigError
from lossbench.terms import LossTerm, coerce_terms

Kind = Literal["loss", "backbone", "dataset"]
KINDS: tuple[Kind, ...] = ("loss", "backbone", "dataset")
#: Constructor parameters the engine fills in by name. Everything else in a signature is a hyper-parameter.
FACTS: Mapping[Kind, frozenset[str]] = {
    "loss": frozenset({"num_classes", "class_counts", "ignore_index"}),
    "backbone": frozenset({"num_classes"}),
    "dataset": frozenset({"root"}),
}
REQUIRED: Any = inspect.Parameter.empty

#: (hyper-parameters, names of the facts) of a constructor.
Signature = tuple[tuple["Param", ...], frozenset[str]]


@dataclass(frozen=True)
class Param:
    """A typed hyper-parameter. `annotation` is a real type object, `default` may be `REQUIRED`."""

    name: str
    annotation: Any
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        return self.default is REQUIRED

    @property
    def takes_terms(self) -> bool:
        """Whether its values are terms: see `lossbench.terms`."""
        return bool(self.annotation == list[LossTerm])

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter

        return TypeAdapter(self.annotation)

    def coerce(self, value: Any) -> Any:
        """`value` (as JSON or YAML gave it) checked strictly against the annotation: 1 -> 1.0 for a float,
        'a/b' -> Path for a Path, but never '1' -> 1. Raises ValueError with pydantic's words."""
        if self.takes_terms:
            return coerce_terms(value)
        from pydantic import ValidationError

        try:
            # No infinities and NaN: they have no place in a cell's canonical JSON.
            raw = json.dumps(value, default=str, allow_nan=False)
            return self._adapter.validate_json(raw, strict=True)
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].lower()) from None

    @property
    def type_name(self) -> str:
        return "list of {name, weight, ...}" if self.takes_terms else _type_name(self.annotation)

    @cached_property
    def takes_list(self) -> bool:
        """Whether a list is a value of this parameter (else, in a suite, it is a grid axis)."""
        if self.takes_terms:
            return True
        schema = self._adapter.json_schema()
        options = [schema, *schema.get("anyOf", [])]
        return any(option.get("type") == "array" for option in options)


def _type_name(annotation: Any) -> str:
    """As one writes it: `float | None`, `Literal['a', 'b'] | list[int]`."""
    if annotation is NoneType:
        return "None"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin in (Union, UnionType):
        return " | ".join(map(_type_name, arguments))
    name = str(getattr(origin or annotation, "__name__", annotation))
    return f"{name}[{', '.join(map(_type_name, arguments))}]" if arguments else name


def registrations(node: ast.ClassDef | ast.FunctionDef, file: Path) -> Iterable[tuple[Kind, str, int]]:
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        function = decorator.func
        called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for kind in KINDS:
            if called == f"register_{kind}":
                argument = decorator.args[0] if decorator.args else None
                if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
                    raise ConfigError(f"{file}:{decorator.lineno}: register_{kind} takes a literal name")
                if not argument.value.isidentifier():
                    raise ConfigError(
                        f"{file}:{decorator.lineno}: '{argument.value}' is no valid name (letters, digits, _)"
                    )
                yield kind, argument.value, decorator.lineno


def static_signature(
    node: ast.ClassDef | ast.FunctionDef, kind: Kind, classes: Mapping[str, ast.ClassDef]
) -> Signature | None:
    """(hyper-parameters, facts) of the constructor, or None when it is not static."""
    function = _constructor(node, classes)
    if function is None:
        return None
    args = function.args
    if args.vararg is not None or args.kwarg is not None:
        return None
    positional = [*args.posonlyargs, *args.args]
    if isinstance(node, ast.ClassDef):
        positional = positional[1:]
    names = [arg.arg for arg in positional]
    if any(name not in FACTS[kind] for name in names):
        return None  # inspect_signature reports it properly
    params, facts = [], set(names)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if arg.arg in FACTS[kind]:
            facts.add(arg.arg)
            continue
        try:
            if arg.annotation is None:
                return None
            annotation = _static_type(arg.annotation)
            value = REQUIRED if default is None else ast.literal_eval(default)
        except (ValueError, NameError, TypeError, AttributeError, SyntaxError):
            return None
        params.append(Param(arg.arg, annotation, value))
    return tuple(params), frozenset(facts)


def _constructor(node: ast.ClassDef | ast.FunctionDef, classes: Mapping[str, ast.ClassDef]) -> ast.FunctionDef | None:
    if isinstance(node, ast.FunctionDef):
        return node
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    for base in node.bases:  # inherited from a class of the same file
        if not (isinstance(base, ast.Name) and base.id in classes and classes[base.id] is not node):
            return None  # another file's class may define it first
        inherited = _constructor(classes[base.id], classes)
        if inherited is not None:
            return inherited
    return None


def _static_type(node: ast.expr) -> Any:
    namespace = {
        "int": int,
        "float": float,
        "bool": bool,
        "str": str,
        "list": list,
        "dict": dict,
        "Literal": Literal,
        "Path": Path,
        "Any": Any,
        "LossTerm": LossTerm,
        "__builtins__": {},
    }
    if any(isinstance(part, ast.Call) for part in ast.walk(node)):
        raise ValueError("annotation is computed")
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        raise ValueError("annotation is quoted")
    return eval(compile(ast.Expression(node), "<annotation>", "eval"), namespace)


def inspect_signature(obj: Any, kind: Kind) -> Signature:
    """(hyper-parameters, facts) of an imported plugin. Raises ConfigError when the contract is broken."""
    params, facts = [], set()
    module = sys.modules.get("torch.nn")
    if module is not None and getattr(obj, "__init__", None) is module.Module.__init__:
        return (), frozenset()  # no constructor of its own: nn.Module's (*args, **kwargs) takes nothing
    try:
        signature = inspect.signature(obj, eval_str=True)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"{kind} {obj.__qualname__}: an annotation of its constructor cannot be evaluated ({error})",
            hint="import the names it uses outside of `if TYPE_CHECKING:`",
        ) from None
    for name, parameter in signature.parameters.items():
        if name in FACTS[kind]:
            facts.add(name)
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise ConfigError(
                f"{kind} {obj.__qualname__}: parameter '{name}' must be keyword-only",
                hint="put a bare * before the hyper-parameters",
            )
        elif parameter.annotation is inspect.Parameter.empty:
            raise ConfigError(f"{kind} {obj.__qualname__}: parameter '{name}' needs a type annotation")
        else:
            params.append(Param(name, parameter.annotation, parameter.default))
    return tuple(params), frozenset(facts)
