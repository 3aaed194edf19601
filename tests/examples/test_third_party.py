"""examples/third_party: other libraries' losses, wrapped, and where a check finds them short."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from lossbench.conformance import check_rule
from lossbench.conformance.targets import find

HERE = Path(__file__).parents[2] / "examples" / "third_party"
LIBRARIES = {"smp": "segmentation_models_pytorch", "monai": "monai", "kornia": "kornia"}
#: Findings the page draws its conclusions from, each with a part of what the check says.
FINDINGS = [
    ("smp", "smp_focal", "shift", "a constant added to all logits"),  # sigmoids
    ("smp", "smp_lovasz", "all_ignored", "a tensor of shape (0, 4)"),
    ("smp", "smp_lovasz", "dtypes", "expected both vectors to have same dtype"),
    ("smp", "smp_soft_ce", "compaction", "value"),  # ignored pixels in the denominator
    ("monai", "monai_dice", "ignore", "gradient at ignored pixels: 40 of 40 not 0"),
    ("monai", "monai_focal", "class_permutation", "value"),  # ignored pixels became class 0
    ("kornia", "kornia_focal", "compaction", "value"),  # ignored pixels in the denominator
    ("kornia", "kornia_dice", "all_ignored", "value 1"),
]


def library(name: str) -> ModuleType:
    return pytest.importorskip(LIBRARIES[name], reason="pip install 'lossbench[bench]'")


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_one_can_be_built_and_called(name: str) -> None:
    library(name)
    for plugin in find(str(HERE / f"{name}_losses.py")):
        result = check_rule(plugin, "learns")
        assert result.ok, str(result)


@pytest.mark.parametrize(("name", "loss", "rule", "said"), FINDINGS, ids=lambda value: value if "_" in value else None)
def test_a_finding_is_still_true(name: str, loss: str, rule: str, said: str) -> None:
    """When a library mends one, this fails: the page is to be brought up to date."""
    library(name)
    (plugin,) = [plugin for plugin in find(str(HERE / f"{name}_losses.py")) if plugin.name == loss]
    result = check_rule(plugin, rule)
    assert not result.ok
    assert said in str(result)


@pytest.mark.parametrize(("name", "loss", "rule", "said"), FINDINGS, ids=lambda value: value if "_" in value else None)
def test_the_page_tells_of_it(name: str, loss: str, rule: str, said: str) -> None:
    page = (HERE.parents[1] / "docs" / "third-party.md").read_text(encoding="utf-8")
    assert f"| `{loss}` | {rule} |" in page
