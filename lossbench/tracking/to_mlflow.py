"""Stories as runs of an MLflow experiment, in a file or SQLite store or on a server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lossbench.track_schema import MlflowSpec
from lossbench.tracking.story import Story

T = TypeVar("T")
#: Of one call: MLflow's own limits.
_METRICS, _PARAMS = 1000, 100
_ID, _RECORD = "lossbench.id", "lossbench.record"
_EXTRA = "lossbench[mlflow]"
#: Databases that MLflow writes itself, and the Python module that each is reached by unless the URI names another.
_DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg2", "mysql": "MySQLdb", "mssql": "pyodbc"}
#: A server that is down is given up after some 7 s instead of 4 minutes; what was not sent is, by the next run.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


def open_tracker(spec: MlflowSpec, suite: str, folder: Path) -> Mlflow:
    default = f"sqlite:///{folder.absolute() / 'mlflow' / 'mlflow.db'}"
    return Mlflow(spec.uri or os.environ.get("MLFLOW_TRACKING_URI") or default, spec.experiment or suite)


class Mlflow:
    name = "mlflow"
    off = ""

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri, self.experiment = absolute(uri), experiment
        #: As in `postgresql+psycopg`; empty: a store of MLflow's that is no URI.
        self._scheme, _, self._driver = urlsplit(self.uri).scheme.partition("+")

    @property
    def place(self) -> str:
        return f"{re.sub(r'//[^/@]*@', '//', self.uri)}, experiment {self.experiment}"

    @property
    def needs(self) -> dict[str, str]:
        needs = dict.fromkeys(("mlflow", "sqlalchemy", "alembic") if self._scheme in _DRIVERS else ("mlflow",), _EXTRA)
        if self._scheme in _DRIVERS:
            driver = {"mysqldb": "MySQLdb"}.get(self._driver, self._driver) or _DRIVERS[self._scheme]
            needs[driver] = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}.get(driver, driver)
        return needs

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        if self._scheme == "sqlite":
            Path(self.uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found is not None else self._client.create_experiment(self.experiment))

    def send(self, story: Story) -> None:
        # MLflow 3 refuses file stores unless told that they are meant: whoever names one means it.
        with environment({"MLFLOW_ALLOW_FILE_STORE": "true"} if self._scheme == "file" else _PATIENCE):
            self._send(story)

    def _send(self, story: Story) -> None:
        client = self._client
        old = client.search_runs([self._experiment], filter_string=f"tags.`{_ID}` = '{story.id}'")
        sent = [
            run
            for run in old
            if run.info.status in ("FINISHED", "FAILED") and run.data.tags.get(_RECORD) == story.record
        ]
        if not sent:
            self._write(client, story)
        for run in old:  # of an earlier record, or one that a killed process left half sent
            if run not in sent[:1]:
                client.delete_run(run.info.run_id)

    def _write(self, client: Any, story: Story) -> None:
        from mlflow.entities import Metric, Param

        started, ended = (round(1000 * moment) for moment in (story.started, story.finished))
        tags = {**story.tags, "group": story.group, _RECORD: story.record}
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


def absolute(uri: str) -> str:
    """The URI of a store with the path of its file or folder, if it is one, made absolute."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        path = uri.removeprefix("sqlite:///")
        return uri if path in (uri, "") or path.startswith(":") else f"sqlite:///{Path(path).absolute()}"
    if parts.scheme == "file" and not parts.netloc:
        return Path(url2pathname(parts.path)).absolute().as_uri()
    if not parts.scheme and not uri.startswith("databricks"):
        return Path(uri).absolute().as_uri()
    return uri


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that the user has not set himself, for as long as it lasts. A process that another thread starts
    meanwhile has them too."""
    own = {key: value for key, value in values.items() if key not in os.environ}
    os.environ.update(own)
    try:
        yield
    finally:
        for key in own:
            os.environ.pop(key, None)


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    waiting = iter(items)
    while part := list(islice(waiting, size)):
        yield part


def _key(name: str) -> str:
    """What MLflow takes for a name."""
    return re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)[:250]
