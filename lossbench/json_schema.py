"""A JSON Schema (draft 2020-12) of the suite format, for editors: from the pydantic models and the plugins' signatures.

Names are open: one that the schema does not know may be a plugin of the user's; it gets no help, but is no error. What
the schema refuses the loader refuses, too. Not the other way round: the schema does not see how keys fit together
(`min_lr` above `lr`), globs that match nothing, files that are not there, and 8.0 where a whole number is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import PydanticUserError, TypeAdapter

from lossbench.docstring import read
from lossbench.protocol import SET_BY_TUNING
from lossbench.registry import KINDS, Kind, Plugin, all_registries
from lossbench.signatures import Param
from lossbench.suite_schema import SuiteSpec
from lossbench.terms import RESERVED
from lossbench.tuning.search import TUNABLE

Schema = dict[str, Any]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
#: What comes with lossbench: `suite_schema(shipped())`, kept fresh by a test.
SHIPPED = Path(__file__).with_name("suite.schema.json")
_SECTIONS: Mapping[Kind, str] = {"dataset": "datasets", "backbone": "backbones", "loss": "losses"}


def shipped() -> list[Plugin]:
    """The plugins that come with lossbench, without those of other packages."""
    return [
        plugin
        for registry in all_registries().values()
        for plugin in registry
        if (plugin.module or "").startswith("lossbench.")
    ]


def suite_schema(plugins: Iterable[Plugin]) -> Schema:
    """The schema of a suite file, with help for these plugins.

    Raises ConfigError where the signature of a plugin of others cannot be read.
    """
    known: dict[Kind, list[Plugin]] = {kind: [] for kind in KINDS}
    for plugin in plugins:
        known[plugin.kind].append(plugin)
    schema = _plain(SuiteSpec.model_json_schema())
    keys, defs = schema["properties"], schema["$defs"]
    for unused in ("ComponentSpec", "JsonValue"):
        del defs[unused]
    for kind, section in _SECTIONS.items():
        keys[section]["items"] = {"$ref": f"#/$defs/{kind}"}
        defs[section] = _names(kind, known[kind])
        defs[kind] = _component(kind, known[kind])
        defs |= {f"{kind}.{plugin.name}": _grid_of(plugin, defs) for plugin in known[kind]}
    _terms(defs, known["loss"])
    _protocol(defs)
    _resources(defs["Resources"])
    _overrides(defs["OverrideSpec"])
    _tune(defs, known["loss"])
    for key in keys.keys() - set(schema["required"]):  # `protocol:` with nothing below it is the default
        keys[key] = _or_null(keys[key])
    return {"$schema": DRAFT, "title": "lossbench suite", **schema, "$defs": dict(sorted(defs.items()))}


def _plain(schema: Any) -> Any:
    """pydantic's schema without the titles it makes of names, and without defaults that are whole models or null."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _plain(item) for name, item in value.items()} if key in ("properties", "$defs") else _plain(value)
        for key, value in schema.items()
        if key not in ("title", "discriminator")
        and not (key == "default" and (value is None or isinstance(value, dict)))
    }


def _or_null(schema: Schema) -> Schema:
    said: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    kinds = {key: value for key, value in schema.items() if key not in said}
    choices: list[Schema] = kinds["anyOf"] if kinds.keys() == {"anyOf"} else [kinds]
    return {**said, "anyOf": choices if {"type": "null"} in choices else [*choices, {"type": "null"}]}


# --- datasets, backbones, losses ---


def _names(kind: Kind, plugins: Iterable[Plugin]) -> Schema:
    """Any name; those of the plugins with what they are."""
    said = f"a {kind}, as `lossbench list {_SECTIONS[kind]}` shows it"
    helped = [{"const": plugin.name, "description": plugin.summary} for plugin in plugins]
    return {"description": said, "type": "string", "anyOf": [*helped, {"type": "string"}]}


def _component(kind: Kind, plugins: Iterable[Plugin]) -> Schema:
    """A name alone, where nothing else is needed, or a mapping."""
    plugins = list(plugins)
    name = {"$ref": f"#/$defs/{_SECTIONS[kind]}"}
    mapping = _mapping_of(kind, plugins, kind)
    incomplete = [plugin.name for plugin in plugins if any(param.required for param in plugin.params.values())]
    return {"anyOf": [{**name, "not": {"enum": incomplete}} if incomplete else name, mapping]}


def _mapping_of(kind: Kind, plugins: Iterable[Plugin], prefix: str) -> Schema:
    """A mapping with a name, and the keys that its name allows: those of the definition `prefix`.NAME."""
    return {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"$ref": f"#/$defs/{_SECTIONS[kind]}"}},
        "allOf": [
            {
                "if": {"properties": {"name": {"const": plugin.name}}, "required": ["name"]},
                "then": {"$ref": f"#/$defs/{prefix}.{plugin.name}"},
            }
            for plugin in plugins
        ],
    }


def _terms(defs: Schema, losses: Iterable[Plugin]) -> None:
    """A loss as a term of another. One with a parameter that a term has for itself cannot be one."""
    possible: dict[bool, list[Plugin]] = {True: [], False: []}
    for plugin in losses:
        possible[not set(RESERVED) & plugin.params.keys()].append(plugin)
    term = _mapping_of("loss", possible[True], "term")
    term["properties"]["name"]["not"] = {"enum": [plugin.name for plugin in possible[False]]}
    defs["term"] = term
    defs |= {f"term.{plugin.name}": _term_of(plugin, defs) for plugin in possible[True]}


def _grid_of(plugin: Plugin, defs: Schema) -> Schema:
    """The mapping of one plugin in a suite, where a list is a grid."""
    return _mapping(plugin, {param.name: _grid(param, _type_of(plugin, param, defs)) for param in _params(plugin)})


def _term_of(plugin: Plugin, defs: Schema) -> Schema:
    """The mapping of one loss as a term of another, where nothing is a grid."""
    weight = {"type": "number", "minimum": 0, "default": 1, "description": "factor of the term"}
    return _mapping(plugin, {"weight": weight, **{p.name: _type_of(plugin, p, defs) for p in _params(plugin)}})


def _mapping(plugin: Plugin, keys: Mapping[str, Schema]) -> Schema:
    said = read(plugin).params
    defaults = {param.name: param.default for param in _params(plugin) if not param.required}
    properties: Schema = {"name": {"const": plugin.name}}
    for name, schema in keys.items():
        about = {"description": said[name]} if name in said else {}
        default = {"default": defaults[name]} if defaults.get(name) is not None else {}
        properties[name] = {**about, **default, **schema}
    required = [param.name for param in _params(plugin) if param.required]
    found = {"description": plugin.summary, "properties": properties, "additionalProperties": False}
    return {**found, "required": required} if required else found


def _params(plugin: Plugin) -> Iterable[Param]:
    return plugin.params.values()


def _type_of(plugin: Plugin, param: Param, defs: Schema) -> Schema:
    """The schema of one value of a parameter; definitions that it needs are put into `defs`. Anything goes for a type
    that JSON Schema cannot say."""
    if param.takes_terms:
        return {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/term"}}
    prefix = f"{plugin.kind}.{plugin.name}.{param.name}"
    try:
        schema: Schema = _plain(TypeAdapter(param.annotation).json_schema(ref_template=f"#/$defs/{prefix}.{{model}}"))
    except PydanticUserError:
        return {}
    defs |= {f"{prefix}.{name}": value for name, value in schema.pop("$defs", {}).items()}
    return schema


def _grid(param: Param, value: Schema) -> Schema:
    """As `lossbench.suite` reads it: a list is a grid; of a parameter that takes lists, one with lists in it."""
    if not value:
        return {}
    grid: Schema = {"type": "array", "minItems": 1, "items": value}
    if param.takes_list:
        grid["contains"] = {"type": "array"}
    return {"anyOf": [value, grid]}


# --- the rest ---


def _protocol(defs: Schema) -> None:
    for name in SET_BY_TUNING:
        del defs["Protocol"]["properties"][name]


def _resources(resources: Schema) -> None:
    gpus = resources["properties"]["gpus"]
    gpus["anyOf"] = [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "integer", "minimum": 0},
        {"type": "null"},
    ]


def _overrides(override: Schema) -> None:
    said = override["properties"]["protocol"]["description"]
    override["properties"]["protocol"] = {"description": said, "$ref": "#/$defs/Protocol"}
    override["anyOf"] = [
        {"required": [key], "properties": {key: {"type": "object", "minProperties": 1}}}
        for key in ("protocol", "resources")
    ]


def _tune(defs: Schema, losses: Iterable[Plugin]) -> None:
    """A range or a list for each dimension; of the protocol's keys those that may be searched."""
    ranged = defs.pop("DimensionSpec")
    keys = {name: _without_null(value) for name, value in ranged["properties"].items()}
    defs["dimension"] = {
        "description": ranged["description"],
        "anyOf": [
            {key: value for key, value in keys["values"].items() if key != "description"},
            {
                "type": "object",
                "properties": keys,
                "additionalProperties": False,
                "oneOf": [
                    {"required": ["low", "high"], "properties": {"values": False}},
                    {"required": ["values"], "maxProperties": 1},
                ],
            },
        ],
    }
    tune = defs["TuneSpec"]
    tune["required"].append("search")
    protocol, dimension = defs["Protocol"]["properties"], {"$ref": "#/$defs/dimension"}
    of_loss = {
        plugin.name: {
            "type": "object",
            "properties": {p.name: dimension for p in _params(plugin) if not p.takes_terms},
            "additionalProperties": False,
        }
        for plugin in losses
    }
    tune["properties"]["search"] |= {
        "properties": {key: {"description": protocol[key]["description"], **dimension} for key in TUNABLE},
        "additionalProperties": False,
        "minProperties": 1,
    }
    tune["properties"]["search"].pop("default", None)
    tune["properties"]["losses"] |= {
        "properties": of_loss,
        "additionalProperties": {"type": "object", "additionalProperties": dimension},
    }


def _without_null(schema: Schema) -> Schema:
    (kind,) = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    return {**{key: value for key, value in schema.items() if key != "anyOf"}, **kind}
