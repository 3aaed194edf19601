"""Stories as runs of an MLflow experiment, in a file or SQLite store or on a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from lossbench.track_schema import MlflowSpec
from lossbench.tracking.story import Story

T = TypeVar("T")
#: Of one call: MLflow's own limits.
_METRICS, _PARAMS = 1000, 100
_ID = "lossbench.id"


def open_tracker(spec: MlflowSpec, suite: str, folder: Path) -> Mlflow:
    default = folder / "mlflow" / "mlflow.db"
    uri = spec.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        default.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{default.absolute()}"
    return Mlflow(uri, spec.experiment or suite)


class Mlflow:
    name = "mlflow"

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = uri, experiment

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found is not None else self._client.create_experiment(self.experiment))

    def send(self, story: Story) -> None:
        from mlflow.entities import Metric, Param

        client = self._client
        same = client.search_runs([self._experiment], filter_string=f"tags.`{_ID}` = '{story.id}'")
        for old in same:
            if old.info.status in ("FINISHED", "FAILED"):
                return
            client.delete_run(old.info.run_id)  # one that a killed process left half sent
        started, ended = (round(1000 * moment) for moment in (story.started, story.finished))
        tags = {**story.tags, "group": story.group}
        run = client.create_run(self._experiment, start_time=started, tags=tags, run_name=story.name).info.run_id
        last = max((points[-1][0] for points in story.series.values()), default=0)
        measured = chain(
            (Metric(_key(n), v, ended, step) for n, points in story.series.items() for step, v in points),
            (Metric(_key(n), v, ended, last) for n, v in story.scores.items()),
        )
        for part in _batched(measured, _METRICS):
            client.log_batch(run, metrics=part)
        for params in _batched((Param(_key(n), str(v)[:6000]) for n, v in story.params.items()), _PARAMS):
            client.log_batch(run, params=params)
        client.set_terminated(run, "FAILED" if story.diverged else "FINISHED", end_time=ended)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while part := list(islice(waiting, size)):
        yield part


def _key(name: str) -> str:
    """What MLflow takes for a name."""
    return re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)[:250]
