"""The site file: what a suite should not have to say of the cluster it runs on.

    resources:
      slurm_partition: gpu
      slurm_account: my-project
      cpus: 4

The keys are those of a suite's `resources`; what the suite says wins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from lossbench.cells import Cell
from lossbench.errors import ConfigError
from lossbench.suite import Suite
from lossbench.suite_schema import STRICT, Problems, Resources
from lossbench.yamlfile import read_yaml


class SiteSpec(BaseModel):
    model_config = STRICT
    resources: Resources = Field(description="as in a suite, whose keys win")


def read_site(file: Path) -> Resources:
    """The resources of a site file. Raises ConfigError (`file:line: what is wrong`)."""
    document = read_yaml(file)
    if not isinstance(document.data, dict):
        raise ConfigError(f"{document.where()}: a site file is a mapping of keys", hint="it starts with 'resources:'")
    try:
        return SiteSpec.model_validate(document.data).resources
    except ValidationError as error:
        problems = Problems(document, SiteSpec)
        problems.add_schema(error)
        problems.stop()
        raise


def resources_at(suite: Suite, site: Resources) -> Callable[[Cell], Resources]:
    """What each cell of a suite asks for at a site."""
    return lambda cell: site.model_copy(update=suite.resources_of(cell).model_dump(exclude_unset=True))
