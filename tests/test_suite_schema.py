"""Every key of the suite format says what it is: the reference pages and the JSON Schema are generated from that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lossbench.sitefile import SiteSpec
from lossbench.suite_schema import SuiteSpec


def models(annotation: Any, seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """The models in an annotation, at any depth, each once."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            yield annotation
            for field in annotation.model_fields.values():
                yield from models(field.annotation, seen)
    else:
        for argument in get_args(annotation):
            yield from models(argument, seen)


MODELS = list(models(SuiteSpec | SiteSpec, set()))
FIELDS = [(model, name) for model in MODELS for name in model.model_fields]


def test_all_of_the_format_is_looked_at():
    assert {model.__name__ for model in MODELS} == {
        "ComponentSpec", "DimensionSpec", "MlflowSpec", "OverrideSpec", "Protocol", "Resources", "SiteSpec",
        "SuiteSpec", "TensorBoardSpec", "TuneSpec", "WandbSpec",
    }  # fmt: skip


@pytest.mark.parametrize(("model", "name"), FIELDS, ids=[f"{model.__name__}.{name}" for model, name in FIELDS])
def test_every_key_has_a_description(model, name):
    said = model.model_fields[name].description
    assert said, "Field(description=...)"
    assert len(said) <= 120, "short: editors show it in a line"
    assert said == said.strip()
    assert not said.endswith("."), "a phrase, not a sentence"
