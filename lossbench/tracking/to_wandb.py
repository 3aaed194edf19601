"""Stories as runs of Weights & Biases; offline unless the user has chosen otherwise (`wandb sync` sends those)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.track_schema import WandbSpec
from lossbench.tracking.story import Story, by_step

#: Seconds for a server to answer.
_TIMEOUT = 30.0


def open_tracker(spec: WandbSpec, suite: str, folder: Path) -> Wandb:
    project = spec.project or os.environ.get("WANDB_PROJECT") or suite
    return Wandb(folder / "wandb", project, spec.entity, spec.mode or os.environ.get("WANDB_MODE") or "offline")


class Wandb:
    """The run's id is the cell's: sent twice it is one run of the project."""

    name = "wandb"
    needs: Mapping[str, str] = {"wandb": "lossbench[wandb]"}

    def __init__(self, folder: Path, project: str, entity: str | None, mode: str) -> None:
        self.project, self.entity, self.mode = project, entity, mode
        #: Of one project: a run of the same cell in another one would have the same folder.
        self.folder = folder.absolute() / re.sub(
            r"[^A-Za-z0-9_.=-]+", "-", f"{entity}.{project}" if entity else project
        )
        self.off = "WANDB_MODE=disabled" if mode == "disabled" else ""

    @property
    def _offline(self) -> bool:
        return self.mode in ("offline", "dryrun")

    @property
    def place(self) -> str:
        where = self.folder if self._offline else os.environ.get("WANDB_BASE_URL") or "online"
        return f"{where}, project {self.entity or ''}/{self.project}"

    def send(self, story: Story) -> None:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(f"wandb/offline-run-*-{story.id}"):
            shutil.rmtree(old)
        settings: dict[str, Any] = {"silent": True, "console": "off", "x_disable_stats": True, "x_disable_meta": True}
        settings |= {"init_timeout": _TIMEOUT}
        if "finish_timeout" in wandb.Settings.model_fields:
            settings |= {"finish_timeout": _TIMEOUT, "finish_timeout_raises": True}
        run = wandb.init(  # not resumed: a run of this id that was sent before is replaced
            project=self.project,
            entity=self.entity,
            dir=str(self.folder),
            id=story.id,
            name=story.name,
            group=story.group[:128],
            job_type=story.tags["loss"],
            tags=[tag[:64] for key, tag in story.tags.items() if key in ("status", "suite") and tag],
            config={**story.params, **story.tags},
            mode=self.mode,  # type: ignore[arg-type]
            settings=wandb.Settings(**settings),
        )
        for step, values in by_step(story.series):
            run.log(values, step=step)
        run.summary.update(story.scores)
        run.finish(exit_code=int(story.diverged))
        if self._offline:
            wandb.teardown()  # `finish` is back before the file is written; the end of the client's process is not
