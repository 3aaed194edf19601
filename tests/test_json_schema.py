"""The JSON Schema of the suite format: what it refuses the loader refuses, and all that is right passes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from lossbench.cli.main import run as command_line
from lossbench.errors import ConfigError
from lossbench.json_schema import SHIPPED, shipped, suite_schema
from lossbench.protocol import SET_BY_TUNING, Protocol
from lossbench.registry import all_registries
from lossbench.suite import load_suite
from lossbench.suite_schema import Resources, SuiteSpec
from lossbench.tune_schema import TuneSpec
from lossbench.yamlfile import parse_yaml, read_yaml

ROOT = Path(__file__).parents[1]
SUITES = sorted((ROOT / "suites").glob("*.yaml"))
SCHEMA = suite_schema(shipped())
VALIDATOR = Draft202012Validator(SCHEMA)
BASE: dict[str, Any] = {"datasets": ["streets"], "backbones": ["fcn_timm"], "losses": ["ce"]}
TUNE = {"trials": 2, "search": {"lr": [1e-3, 1e-2]}}

LOSS = """
@register_loss("{name}")
class Mine:
    '''A loss of one's own.'''
    def __init__(self, *, beta: float, names: dict[str, list[int]] | None = None, ignore_index: int = 255) -> None: ...
"""


def accepts(**keys: Any) -> bool:
    return VALIDATOR.is_valid({**BASE, **keys})


def parsed(yaml: str) -> Any:
    return parse_yaml(yaml, Path("suite.yaml")).data


def loads(folder: Path, **keys: Any) -> bool:
    """Whether the loader takes it, files that are not there aside; JSON is YAML."""
    file = folder / "suite.yaml"
    file.write_text(json.dumps({**BASE, **keys}))
    try:
        load_suite(file)
    except ConfigError as error:
        return all("no such file" in line for line in error.message.splitlines())
    return True


def test_it_is_a_schema_and_fresh():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert json.loads(SHIPPED.read_text(encoding="utf-8")) == SCHEMA, (
        "run `lossbench schema --shipped > lossbench/suite.schema.json`"
    )


def test_the_verb_writes_it(capsys):
    assert command_line(["schema", "--shipped"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_every_reference_leads_somewhere_and_every_key_is_described():
    for name in _references(SCHEMA):
        assert name in SCHEMA["$defs"]
    assert set(_references(SCHEMA)) == SCHEMA["$defs"].keys(), "no definition is unused"
    for keys in (SCHEMA, *(SCHEMA["$defs"][name] for name in ("Protocol", "Resources", "OverrideSpec", "TuneSpec"))):
        assert all(value["description"] for value in keys["properties"].values())
    assert SCHEMA["properties"].keys() == SuiteSpec.model_fields.keys()
    assert SCHEMA["$defs"]["Protocol"]["properties"].keys() == Protocol.model_fields.keys() - set(SET_BY_TUNING)
    assert SCHEMA["$defs"]["Resources"]["properties"].keys() == Resources.model_fields.keys()
    assert SCHEMA["$defs"]["TuneSpec"]["properties"].keys() == TuneSpec.model_fields.keys()


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].removeprefix("#/$defs/")] if isinstance(schema.get("$ref"), str) else []
    return own + [name for value in schema.values() for name in _references(value)]


def test_it_knows_every_shipped_plugin_and_what_each_parameter_is():
    for kind, registry in all_registries().items():
        for plugin in registry:
            known = SCHEMA["$defs"][f"{kind}.{plugin.name}"]
            assert known["properties"].keys() - {"name"} == plugin.params.keys()
            assert known.get("required", []) == [p.name for p in plugin.params.values() if p.required]
            for param in plugin.params.values():
                assert known["properties"][param.name].get("default") == (None if param.required else param.default)
    focal = SCHEMA["$defs"]["loss.focal"]["properties"]["gamma"]
    assert focal["description"].startswith("focusing exponent")
    assert SCHEMA["$defs"]["dataset.streets"]["properties"]["height"]["description"] == "pixels of an image."


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_shipped_suites_pass(file):
    assert [error.message for error in VALIDATOR.iter_errors(read_yaml(file).data)] == []


@pytest.mark.parametrize("file", SUITES, ids=lambda file: file.stem)
def test_editors_read_the_numbers_of_shipped_suites_alike(file):
    """40_000 is lossbench's own: to YAML 1.2, and so to editors, it is text."""
    lines = [line.partition("#")[0] for line in file.read_text().splitlines()]
    assert not [line for line in lines if "_" in line.partition(": ")[2].strip() and line.strip()[-1].isdigit()]


def test_the_suite_of_the_page_is_right():
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "editor.md").read_text(), flags=re.DOTALL)
    assert block.startswith("# yaml-language-server: $schema=suite.schema.json\n")
    assert VALIDATOR.is_valid(parsed(block))


RIGHT = [
    "losses: [{name: focal, gamma: [0.5, 2], alpha: [0.25, 0.75]}]",
    "losses: [{name: focal, alpha: [[0.25, 0.75], [0.5, 0.5]]}]",
    "losses: [{name: focal, alpha: [[0.25, 0.75], 1]}]",
    "losses: [{name: sum, terms: [{name: ce, weight: 0.8}, {name: focal, gamma: 1}]}]",
    "losses: [{name: sum, terms: [[{name: ce}], [{name: dice, weight: 2}]]}]",
    "losses: [{name: sum, terms: [{name: sum, terms: [{name: ce}]}]}]",
    "datasets: [{name: folder, title: mine, path: ~/data, classes: [road, car]}]",
    "datasets: [{name: folder, title: mine, path: ~/data, classes: {road: 1, car: [2, 3]}}]",
    "backbones: [{name: fcn_timm, weights: none}]",
    "backbones: [{name: fcn_timm, weights: [none, imagenet], output_stride: [8, 16]}]",
    "seeds: 5",
    "seeds: [0, 0, 7]",
    "protocol: null",
    "protocol: {}",
    "name: null",
    "tune: null",
    "track: tensorboard",
    "track: {name: wandb, mode: offline}",
    "track: [mlflow, {name: tensorboard, folder: logs}]",
    "track: []",
    "resources: {gpus: 0.5, memory_gb: 8, slurm_exclusive: true, slurm_additional_parameters: {reservation: friday}}",
    "resources: {gpus: 4, cpus: null}",
    "overrides: [{match: '*/ce/*', protocol: {lr: 0.1}}]",
    "overrides: [{match: '*/ce/*', resources: {minutes: 5}}]",
    "exclude: ['*/seed1']\nseeds: 2",
    "tune: {trials: 4, search: {lr: {low: 1e-4, high: 1e-2, log: true}, warmup: [0, 10]}, sampler: random, seeds: 2}",
    "tune: {trials: 2, search: {lr: {values: [0.1, 0.2]}}}",
    "tune: {trials: 2, search: {lr: [0.1, 0.2]}, losses: {focal: {gamma: {low: 1, high: 3}}}}\nlosses: [focal, ce]",
]
WRONG = [
    "loses: [ce]",
    "losses: []",
    "losses: ce",
    "losses: [null]",
    "losses: [{gamma: 2}]",
    "losses: [{name: 5}]",
    "losses: [{name: focal, gama: 2}]",
    "losses: [{name: focal, gamma: '2'}]",
    "losses: [{name: focal, gamma: null}]",
    "losses: [{name: focal, gamma: []}]",
    "losses: [{name: focal, gamma: [1, true]}]",
    "losses: [{name: focal, alpha: [[0.25, high]]}]",
    "losses: [{name: cdfl, passes: 2.5}]",
    "losses: [{name: cdfl, u_at: targets}]",
    "losses: [{name: balanced_ce, counts: [dataset, image]}]",
    "losses: [{name: focal, num_classes: 19}]",
    "losses: [sum]",
    "losses: [{name: sum}]",
    "losses: [{name: sum, terms: [ce]}]",
    "losses: [{name: sum, terms: []}]",
    "losses: [{name: sum, terms: [{name: ce, weight: -1}]}]",
    "losses: [{name: sum, terms: [{name: focal, gamma: [1, 2]}]}]",
    "losses: [{name: sum, terms: [{name: focal, gama: 1}]}]",
    "losses: [{name: sum, terms: [{name: rmi}]}]",
    "datasets: [folder]",
    "datasets: [{name: folder, title: mine}]",
    "datasets: [{name: streets, imbalance: high}]",
    "datasets: null",
    "backbones: [{name: fcn_timm, output_stride: 12}]",
    "backbones: [{name: segnet, bayesian: yes}]",
    "seeds: 0",
    "seeds: 1001",
    "seeds: []",
    "seeds: [-1]",
    "seeds: true",
    "name: ''",
    "protocol: {lr: 0}",
    "protocol: {learning_rate: 0.1}",
    "protocol: {crop: [512]}",
    "protocol: {iterations: many}",
    "protocol: {holdout: 0.2}",
    "protocol: {tuned: null}",
    "plugins: my_loss.py",
    "resources: {gpus: 1.5}",
    "resources: {gpu: 1}",
    "resources: {minutes: 0}",
    "overrides: [{match: '*'}]",
    "overrides: [{match: '*', protocol: {}}]",
    "overrides: [{match: '*', protocol: {lr: fast}}]",
    "overrides: [{protocol: {lr: 0.1}}]",
    "exclude: '*'",
    "tune: {trials: 4}",
    "tune: {trials: 4, search: {}}",
    "tune: {trials: 1, search: {lr: [0.1, 0.2]}}",
    "tune: {trials: 2, search: {batch_size: [4, 8]}}",
    "tune: {trials: 2, search: {lr: {low: 0.1}}}",
    "tune: {trials: 2, search: {lr: {low: 0.1, high: 0.2, values: [0.1]}}}",
    "tune: {trials: 2, search: {lr: []}}",
    "tune: {trials: 2, search: {lr: [0.1, 0.2]}, losses: {ce: {gamma: [1, 2]}}}",
    "tune: {trials: 2, search: {lr: [0.1, 0.2]}, sampler: grid}",
    "track: tensorbord",
    "track: {name: wandb, experiment: mine}",
    "track: [null]",
]


@pytest.mark.parametrize("yaml", RIGHT)
def test_what_is_right_passes(yaml, tmp_path):
    keys = parsed(yaml)
    assert [error.message for error in VALIDATOR.iter_errors({**BASE, **keys})] == []
    assert loads(tmp_path, **keys)


@pytest.mark.parametrize("yaml", WRONG)
def test_what_is_wrong_is_refused(yaml, tmp_path):
    keys = parsed(yaml)
    assert not accepts(**keys)
    assert not loads(tmp_path, **keys)


@pytest.mark.parametrize("missing", ["datasets", "backbones", "losses"])
def test_a_section_that_is_missing_is_refused(missing):
    assert not VALIDATOR.is_valid({key: value for key, value in BASE.items() if key != missing})


@pytest.mark.parametrize(
    "keys",
    [
        {"losses": ["my_loss"]},
        {"losses": [{"name": "my_loss", "beta": [1, 2], "anything": {"a": None}}]},
        {"losses": [{"name": "sum", "terms": [{"name": "my_loss", "beta": 1}]}]},
        {"datasets": ["my_dataset"], "backbones": [{"name": "my_backbone", "depth": 3}]},
        {"tune": {**TUNE, "losses": {"my_loss": {"beta": [1, 2]}}}},
    ],
)
def test_plugins_of_others_are_open(keys):
    assert accepts(**keys)


def test_with_a_plugin_its_own_parameters_are_checked(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("from lossbench.registry import register_loss\n" + LOSS.format(name="mine"))
    assert command_line(["schema", "--plugin", str(file)]) == 0
    mine = Draft202012Validator(json.loads(capsys.readouterr().out))
    for loss, right in [
        ({"name": "mine", "beta": 1}, True),
        ({"name": "mine", "beta": [1, 2], "names": {"a": [1]}}, True),
        ({"name": "mine", "names": {"a": [1]}}, False),
        ({"name": "mine", "beta": 1, "names": {"a": ["b"]}}, False),
        ({"name": "mine", "beta": 1, "gamma": 2}, False),
        ("mine", False),
    ]:
        assert mine.is_valid({**BASE, "losses": [loss]}) is right
    consts = mine.schema["$defs"]["losses"]["anyOf"]
    assert {"const": "mine", "description": "A loss of one's own."} in consts
    assert suite_schema(shipped()) == SCHEMA, "nothing of it stays behind"


def test_a_parameter_may_have_any_type(tmp_path):
    """Definitions that its schema needs are found; one that JSON cannot say is left open."""
    file = tmp_path / "typed.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom lossbench.registry import register_loss\n"
        "@dataclass\nclass Options:\n    title: str\n    default: int\n"
        "@register_loss('typed')\nclass Typed:\n"
        "    def __init__(self, *, options: Options, file: type[object] | memoryview = object) -> None: ...\n"
    )
    (plugin,) = [each for each in all_registries([file])["loss"] if each.name == "typed"]
    mine = Draft202012Validator(suite_schema([*shipped(), plugin]))
    for options, right in [({"title": "a", "default": 1}, True), ({"title": "a"}, False), ({"title": 1}, False)]:
        assert mine.is_valid({**BASE, "losses": [{"name": "typed", "options": options, "file": 3}]}) is right


# --- generated examples ---

_WORDS = sorted({"sgd", "adamw", "poly", "cosine", "constant", "none", "bf16", "fp16", "train", "a", "", "1"})
#: No whole floats: to JSON Schema 8.0 is an integer, to the loader it is not.
_FLOATS = st.floats(-2, 2, allow_nan=False).filter(lambda value: not value.is_integer())
_SCALARS = st.none() | st.booleans() | st.integers(-2, 2000) | _FLOATS | st.sampled_from(_WORDS)
VALUES = _SCALARS | st.lists(_SCALARS, max_size=3) | st.lists(st.lists(_SCALARS, max_size=2), max_size=2)


def takes(model: type[Any], keys: dict[str, Any]) -> bool:
    """Whether each field by itself is right."""
    try:
        model.model_validate(keys)
    except ValidationError as error:
        return not [item for item in error.errors() if item["loc"]]
    return True


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(Protocol.model_fields.keys() - set(SET_BY_TUNING))), value=VALUES)
def test_of_the_protocol_both_take_the_same(name, value):
    right = takes(Protocol, {name: value})
    assert accepts(protocol={name: value}) is right
    assert accepts(overrides=[{"match": "*", "protocol": {name: value}}]) is right


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(sorted(Resources.model_fields)), value=VALUES | st.dictionaries(st.just("a"), _SCALARS))
def test_of_the_resources_both_take_the_same(name, value):
    assert accepts(resources={name: value}) is takes(Resources, {name: value})


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["name", "description", "seeds", "exclude", "plugins", "tune", "track"]), value=VALUES)
def test_of_a_suite_both_take_the_same(name, value):
    assert accepts(**{name: value}) is takes(SuiteSpec, {**BASE, name: value})


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["trials", "holdout", "holdout_seed", "seed", "sampler", "seeds"]), value=VALUES)
def test_of_the_tuning_both_take_the_same(name, value):
    assume(
        value is None or not isinstance(value, list) or len(set(map(str, value))) == len(value)
    )  # a seed given twice
    assert accepts(tune={**TUNE, name: value}) is takes(TuneSpec, {**TUNE, name: value})


PARAMETERS = [
    (kind, plugin, name) for kind, registry in all_registries().items() for plugin in registry for name in plugin.params
]
SECTIONS = {"loss": "losses", "backbone": "backbones", "dataset": "datasets"}
FOLDER = {"title": "mine", "path": "nowhere", "classes": ["a", "b"]}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(PARAMETERS), value=VALUES)
def test_of_a_parameter_both_take_the_same(where, value, tmp_path):
    kind, plugin, name = where
    needed = {p.name: FOLDER.get(p.name, [{"name": "ce"}]) for p in plugin.params.values() if p.required}
    keys = {SECTIONS[kind]: [{"name": plugin.name, **needed, name: value}]}
    assert accepts(**keys) is loads(tmp_path, **keys)
