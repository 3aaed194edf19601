"""What the documentation site makes from the code says all that there is to say, without building the site."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

pytest.importorskip("griffe", reason="pip install 'lossbench[docs]'")

from docsite import api, commands, docstrings, figures, measured, picture, plugins, suitekeys
from docsite.examples import EXAMPLES
from docsite.markup import inline, sentence
from lossbench.cli.main import VERBS
from lossbench.protocol import SET_BY_TUNING, Protocol
from lossbench.registry import KINDS, Registry
from lossbench.yamlfile import read_yaml
from tests.test_suite_schema import MODELS

ROOT = Path(__file__).parents[2]
KEYS = [(section, key) for section in suitekeys.SECTIONS for key in section.fields]


#: {where: the least that a mapping there must hold}.
BASES = {
    "": {"datasets": ["streets"], "backbones": ["unet"], "losses": ["ce"]},
    "losses": {"name": "ce"},
    "overrides": {"match": "*", "protocol": {"lr": 0.001}},
    "tune": {"trials": 2, "search": {"lr": [0.001, 0.01]}},
    "tune.search": {"low": 1.0e-5, "high": 1.0},
}


# --- the suite file ---


def test_every_model_of_the_format_has_its_keys_on_the_page():
    described = {section.model for section in suitekeys.SECTIONS}
    assert {model for model in MODELS if model not in described} == {
        model for model in MODELS if model.__name__ == "SiteSpec"
    }
    for model in described:
        shown = {key for section, key in KEYS if issubclass(model, section.model)}
        hidden = set(SET_BY_TUNING) if model is Protocol else set()
        assert set(model.model_fields) - hidden <= shown


def test_every_key_has_one_example_that_its_model_accepts(tmp_path):
    assert set(EXAMPLES) == {section.anchor(key) for section, key in KEYS}
    file = tmp_path / "example.yaml"
    for section, key in KEYS:
        file.write_text(EXAMPLES[section.anchor(key)])
        data = read_yaml(file).data
        assert list(data) == [key]
        values = {"name": section.path[6:]} if section.path.startswith("track.") else BASES.get(section.path, {})
        section.model.model_validate(data if key == "values" else values | data)


def test_types_are_told_in_words():
    schema = Protocol.model_json_schema()["properties"]
    assert suitekeys.type_words(schema["iterations"]) == "integer > 0"
    assert suitekeys.type_words(schema["crop"]) == "list of 2 integers > 0"
    assert suitekeys.type_words(schema["flip"]) == "number in [0, 1]"
    assert suitekeys.type_words(schema["amp"]) == "`none` or `bf16` or `fp16`"
    assert suitekeys.type_words(schema["clip_grad_norm"]) == "number > 0"


def test_types_of_parameters_are_told_in_words():
    assert plugins.type_words(float | None) == "number or null"
    assert plugins.type_words(Literal["a", "b"]) == "<code>a</code> or <code>b</code>"
    assert plugins.type_words(list[str] | dict[str, int]) == "list of text or mapping of text to integer"


# --- the command line ---


def test_every_verb_and_option_is_on_its_page():
    page = commands.page()
    known = commands.commands()
    assert set(known) == {name for name, _ in VERBS}
    for name, command in known.items():
        assert f"### {name} {{ #{name} }}" in page
        section = page.split(f"### {name} {{")[1].split("\n### ")[0]
        assert "```bash\nlossbench " in section, f"{name} has no example"
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert option in section
    assert "Others" not in page, "a new verb belongs into one of commands.GROUPS"


# --- plugins ---


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_and_parameter_is_on_its_page(kind):
    page = plugins.parameters(kind)
    objects = {name for each in api.PAGES for name in each.objects}
    for plugin in Registry(kind):
        assert f"## {plugin.name} {{ #{plugin.name} }}" in page
        assert plugins.path_of(plugin) in objects
        for name in plugin.params:
            assert f'id="{plugin.name}.{name}"' in page


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_of_plugins_are_what_a_suite_takes(kind, tmp_path):
    page = plugins.parameters(kind)
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    assert len(blocks) == len(list(Registry(kind)))
    file = tmp_path / "part.yaml"
    for plugin, block in zip(Registry(kind), blocks, strict=True):
        file.write_text(block)
        ((_, (entry,)),) = read_yaml(file).data.items()
        given = {} if isinstance(entry, str) else {key: value for key, value in entry.items() if key != "name"}
        resolved = plugin.resolve(given)
        for name, param in plugin.params.items():
            assert param.required or resolved[name] == param.default


def test_the_catalogue_has_every_loss_and_what_it_needs():
    page = plugins.catalogue()
    for plugin in Registry("loss"):
        assert f'id="{plugin.name}"' in page
    needs = {plugin.name: plugins.needs(plugin) for plugin in Registry("loss")}
    assert needs["cdfl"] == ["Monte-Carlo passes"]
    assert needs["balanced_ce"] == ["class counts"]
    assert needs["sum"] == ["Monte-Carlo passes if a term does"]
    assert needs["focal"] == needs["ce_dice"] == []


def test_what_a_loss_needs_is_what_it_asks_for():
    """The page is made from the source; this imports the losses."""
    import inspect

    for plugin in Registry("loss"):
        forward = inspect.signature(plugin.load().forward).parameters
        named_sum = any(base.__name__ == "SumLoss" for base in plugin.load().__mro__[1:])
        passes = "resample" in forward and not named_sum
        assert any("Monte-Carlo" in need for need in plugins.needs(plugin)) == passes, plugin.name


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from docsite import api, commands, plugins, suitekeys; commands.page(); suitekeys.page();"
        "plugins.catalogue(); [plugins.parameters(kind) for kind in ('loss', 'backbone', 'dataset')];"
        "print([name for name in ('torch', 'pandas', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- docstrings ---


def test_labels_of_docstrings_become_paragraphs_and_comparisons_no_tags():
    text = (
        "Focal loss.\n\nSource: Lin 2017.\nTraps: p<q and `a<b`.\n\nArgs:\n    gamma: x<y.\n\nShapes: (N, C) -> scalar."
    )
    made = docstrings.rewritten(text)
    assert "**Source:** Lin 2017.\n\n**Traps:** p&lt;q and `a<b`." in made
    assert "    gamma: x&lt;y." in made
    assert made.endswith("**Shapes:** (N, C) -> scalar.")


def test_code_in_docstrings_stays():
    text = "Use::\n\n    a<b\n    Source: x\n\nAfter a<b."
    assert docstrings.rewritten(text) == "Use::\n\n    a<b\n    Source: x\n\nAfter a&lt;b."
    text = "Args:\n    a: x<y.\n\n    b: x<y.\n"
    assert "x<y" not in docstrings.rewritten(text)


def test_text_becomes_html():
    assert inline("a < b in `c < d`") == "a &lt; b in <code>c &lt; d</code>"
    assert sentence("of all") == "Of all."
    assert sentence("log-uniform") == "Log-uniform."
    assert sentence("nnU-Net, 1:1") == "nnU-Net, 1:1."
    assert sentence("torch.compile of it") == "torch.compile of it."
    assert sentence("") == ""


# --- figures ---


def test_the_figures_are_what_the_records_say():
    """Redraw with `python -m docsite.figures`, and look at what changed."""
    stored = json.loads((figures.FOLDER / "reading.json").read_text(encoding="utf-8"))
    now = json.loads(json.dumps(measured.numbers()))
    assert now["records"] == stored["records"]
    assert _flat(now) == pytest.approx(_flat(stored), rel=1e-6, abs=1e-9)
    for name in figures.FIGURES:
        assert f"Numbers: {measured.digest(stored)}." in (figures.FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def test_the_picture_of_the_readme_is_of_these_records():
    """Take it anew with `python -m docsite.picture`, and look at it."""
    assert picture.FILE.stat().st_size < 200_000
    with Image.open(picture.FILE) as taken:
        assert taken.text["Numbers"] == measured.digest(picture.scores())


def _flat(data, path=""):
    """{path: number} of nested mappings and lists."""
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
        return {key: value for name, item in items for key, value in _flat(item, f"{path}/{name}").items()}
    return {path: data} if isinstance(data, int | float) else {}


def test_every_figure_of_the_page_is_drawn_and_every_number_quoted_is_one_of_them():
    text = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")
    for name in figures.FIGURES:
        assert f"](figures/{name}.svg)" in text
    data = measured.numbers()
    for n, words in (("3", "3 seeds see {} points"), ("6", "6 see {}"), ("12", "12 see {}")):
        assert words.replace(" points", "").format(f"{data['detectable'][n]:.2f}") in " ".join(text.split())
    misses = sum(abs(mean - 1) > half for mean, half in data["coverage"])
    assert f"about 3 should miss, {misses} do" in text
    assert min(data["rows"]["balanced_ce"]["differences"]) > 0
    assert max(data["miou"]["ce"]) > min(data["miou"]["balanced_ce"])
    assert data["rows"]["cdfl(omega=0.01)"]["verdict"] == "same"
    assert data["rows"]["focal(gamma=2, alpha=0.75)"]["verdict"] == "open"
