"""What every dataset must do: the rules of `lossbench check` over the registry; one dropped in is covered."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossbench.conformance import check_rule, rules
from lossbench.datasets.base import IGNORE_INDEX
from lossbench.registry import Registry
from tests.datasets import trees

NAMES = Registry("dataset").names()


def test_the_three_of_the_first_release_are_there() -> None:
    assert {"camvid", "folder", "streets"} <= set(NAMES)


@pytest.mark.parametrize("rule", rules("dataset"))
@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_passes_every_rule(name: str, rule: str, tmp_path: Path) -> None:
    result = check_rule(Registry("dataset").get(name), rule, data_root=tmp_path, **trees.params(name, tmp_path))
    assert result.ok, str(result)
    assert result.skipped_reason is None


@pytest.mark.parametrize("name", NAMES)
def test_ignore_index_is_the_engines(name: str, tmp_path: Path) -> None:
    assert trees.build(name, tmp_path).ignore_index == IGNORE_INDEX
