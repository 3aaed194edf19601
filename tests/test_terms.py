"""Losses made of losses: what a suite may write, identity, labels, code hashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lossbench.cells import Cell, Component
from lossbench.errors import ConfigError, ParameterError, UnknownNameError
from lossbench.execution.plugins import code_hashes, plugin_modules
from lossbench.provenance import code_hash
from lossbench.registry import Registry, all_registries
from lossbench.suite import Suite, load_suite
from tests.factories import make_cell

SUM = Registry("loss").get("sum")
PLUGIN = '''
from pathlib import Path
from lossbench.registry import register_loss

@register_loss("own")
class Own:
    """A loss of the user's."""
    def __init__(self, *, table: Path | None = None, power: float = 1.0, ignore_index: int = 255): ...

@register_loss("weighty")
class Weighty:
    """A loss whose parameter is called like the key of a term."""
    def __init__(self, *, weight: float = 1.0, ignore_index: int = 255): ...
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own_loss.py"
    file.write_text(PLUGIN)
    return file


def suite(losses: str, plugins: str = "") -> Suite:
    Path("s.yaml").write_text(f"datasets: [streets]\nbackbones: [fcn_timm]\nlosses:\n{losses}\n{plugins}")
    return load_suite("s.yaml")


def cells(losses: str) -> list[Cell]:
    return suite(losses, "plugins: [own_loss.py]").cells()


def test_terms_are_resolved_with_their_defaults() -> None:
    given = [{"name": "ce"}, {"name": "focal", "weight": 2, "gamma": 3}]
    terms = SUM.resolve({"terms": given})["terms"]
    assert terms == [
        {"name": "ce", "weight": 1.0, "label_smoothing": 0.0},
        {"name": "focal", "weight": 2.0, "gamma": 3.0, "alpha": 1.0},
    ]
    assert isinstance(terms[1]["gamma"], float)
    assert given == [{"name": "ce"}, {"name": "focal", "weight": 2, "gamma": 3}]  # not written to
    assert SUM.resolve({"terms": terms}) == {"terms": terms}


def test_what_a_suite_leaves_out_is_not_identity(own: Path) -> None:
    short = "- {name: sum, terms: [{name: ce}, {name: own, weight: 0.5}]}"
    spelled = "- {name: sum, terms: [{label_smoothing: 0, weight: 1, name: ce}, {name: own, weight: 0.5, power: 1.0}]}"
    other = "- {name: sum, terms: [{name: ce}, {name: own, weight: 0.5, power: 2}]}"
    (a,), (b,), (c,) = cells(short), cells(spelled), cells(other)
    assert a.id == b.id != c.id


@pytest.mark.parametrize(
    ("terms", "label"),
    [
        ("[{name: ce, weight: 0.8}, {name: lovasz_softmax, weight: 0.2}]", "sum(0.8 ce + 0.2 lovasz_softmax)"),
        ("[{name: ce}, {name: focal, weight: 2, gamma: 5}]", "sum(1 ce + 2 focal(gamma=5))"),
        ("[{name: sum, terms: [{name: ce}, {name: own}]}]", "sum(1 sum(1 ce + 1 own))"),
        ("[{name: sum, terms: [{name: focal, gamma: 5}]}]", "sum(1 sum(1 focal(gamma=5)))"),
    ],
)
def test_labels(own: Path, terms: str, label: str) -> None:
    (cell,) = cells(f"- {{name: sum, terms: {terms}}}")
    assert cell.loss.label == label
    again = Component.from_json(json.loads(json.dumps(cell.loss.to_json())))
    assert again.label == label
    assert again == cell.loss


def test_a_list_of_lists_is_a_grid(own: Path) -> None:
    made = cells("- {name: sum, terms: [[{name: ce}], [{name: ce}, {name: own}]]}")
    assert [cell.loss.label for cell in made] == ["sum(1 ce)", "sum(1 ce + 1 own)"]


def test_a_file_named_in_a_term_keeps_its_identity(own: Path) -> None:
    Path("table.csv").write_text("1")
    (cell,) = cells("- {name: sum, terms: [{name: own, table: table.csv}]}")
    term = cell.loss.params["terms"][0]
    assert term["table"] == own.parent / "table.csv"
    again = Cell.from_json(json.loads(json.dumps(cell.to_json())))
    assert again.loss == cell.loss
    assert again.id == cell.id
    Path("table.csv").write_text("22")
    assert cells("- {name: sum, terms: [{name: own, table: table.csv}]}")[0].id != again.id


WRONG = [
    ("- name: sum", "s.yaml:4: loss 'sum' needs a value for 'terms' (list of {name, weight, ...})", None),
    ("- {name: sum, terms: ce}", "'terms' must be list of {name, weight, ...}, got 'ce'", "a term is {name: ..."),
    ("- {name: sum, terms: []}", "at least one term", "a term is"),
    ("- {name: sum, terms: [ce]}", "term 1 has no name", "a term is"),
    ("- {name: sum, terms: [{weight: 1}]}", "term 1 has no name", "a term is"),
    ("- {name: sum, terms: [{name: ce, weight: -1}]}", "the weight of term 1", "a term is"),
    ("- {name: sum, terms: [{name: ce, weight: '1'}]}", "the weight of term 1", "a term is"),
    ("- {name: sum, terms: [{name: ce, weight: .inf}]}", "the weight of term 1", "a term is"),
    (
        "- name: sum\n  terms:\n    - name: ce\n    - name: lovasz\n",
        "s.yaml:7: loss 'sum': terms[1]: unknown loss 'lovasz'",
        "did you mean 'lovasz_softmax'?",
    ),
    (
        "- name: sum\n  terms:\n    - name: ce\n    - name: focal\n      gama: 2\n",
        "s.yaml:8: loss 'sum': terms[1]: loss 'focal' has no parameter 'gama'",
        "did you mean 'gamma'?",
    ),
    (
        "- name: sum\n  terms:\n    - name: focal\n      gamma: high\n",
        "s.yaml:7: loss 'sum': terms[0]: loss 'focal': 'gamma' must be float, got 'high'",
        None,
    ),
    (
        "- name: sum\n  terms:\n    - name: sum\n      terms:\n        - name: cee\n",
        "s.yaml:8: loss 'sum': terms[0]: loss 'sum': terms[0]: unknown loss 'cee'",
        "did you mean 'ce'?",
    ),
    ("- {name: sum, terms: [{name: weighty}]}", "'weighty' has a parameter 'weight' of its own", None),
    ("- {name: sum, terms: [{name: ce, ignore_index: 0}]}", "'ignore_index' is filled in by lossbench", None),
    ("- {name: sum, terms: [{name: own, table: no.csv}]}", "no such file", None),
]


@pytest.mark.parametrize(("losses", "said", "hint"), WRONG)
def test_what_is_wrong_is_said_with_its_line(own: Path, losses: str, said: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        cells(losses)
    assert "s.yaml:" in caught.value.message
    assert said in caught.value.message
    assert hint is None or (caught.value.hint or "").startswith(hint)


def test_the_error_says_where_in_the_value() -> None:
    with pytest.raises(ParameterError) as caught:
        SUM.resolve({"terms": [{"name": "ce"}, {"name": "focal", "gama": 1}]})
    assert (caught.value.parameter, caught.value.path) == ("terms", (1, "gama"))


# --- provenance ---


def params(*names: str) -> dict[str, Any]:
    return {"terms": [{"name": name, "weight": 1.0} for name in names]}


def test_the_code_of_the_terms_counts(own: Path) -> None:
    def digest(*names: str) -> str:
        return code_hash(Registry("loss", [own]).get("sum"), params(*names))

    plain, mine = digest("ce"), digest("ce", "own")
    assert plain != mine
    assert digest("own", "ce") == mine
    own.write_text(PLUGIN + "# changed\n")
    assert digest("ce") == plain
    assert digest("ce", "own") != mine


def test_a_term_that_is_not_registered_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown loss 'own'"):
        code_hash(SUM, params("own"))


def test_a_worker_is_told_of_the_terms() -> None:
    registries = all_registries()
    made = [make_cell(loss="sum", params=params(*names)) for names in (("ce",), ("ce", "df"))]
    one, two = code_hashes(made, registries)
    assert one["loss"] != two["loss"]
    assert one["backbone"] == two["backbone"]
    assert {"lossbench.losses.sum", "lossbench.losses.df"} <= set(plugin_modules(made, registries))
