"""Stories as runs of Weights & Biases; offline unless the user has chosen otherwise (`wandb sync` sends those)."""

from __future__ import annotations

import os
from pathlib import Path

from lossbench.track_schema import WandbSpec
from lossbench.tracking.story import Story, by_step


def open_tracker(spec: WandbSpec, suite: str, folder: Path) -> Wandb:
    place = folder / "wandb"
    project = spec.project or os.environ.get("WANDB_PROJECT") or suite
    return Wandb(place, project, spec.entity, spec.mode or os.environ.get("WANDB_MODE") or "offline")


class Wandb:
    """The run's id is the cell's: sent twice it is one run of the project."""

    name = "wandb"

    def __init__(self, folder: Path, project: str, entity: str | None, mode: str) -> None:
        self.folder, self.project, self.entity, self.mode = folder, project, entity, mode

    def send(self, story: Story) -> None:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
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
            resume="allow" if self.mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )
        for step, values in by_step(story.series):
            run.log(values, step=step)
        run.summary.update(story.scores)
        run.finish(exit_code=int(story.diverged))
        if self.mode != "online":
            wandb.teardown()  # `finish` is back before the file is written; the end of the client's process is not
