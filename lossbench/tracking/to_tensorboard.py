"""Stories as event files of TensorBoard, with the hyper-parameters of its HParams page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.track_schema import TensorBoardSpec
from lossbench.tracking.story import Story


def open_tracker(spec: TensorBoardSpec, suite: str, folder: Path) -> TensorBoard:
    return TensorBoard(Path(spec.folder).expanduser() if spec.folder else folder / "tensorboard")


class TensorBoard:
    """`tensorboard --logdir FOLDER`: one run a cell, dataset/backbone/loss-seed-id."""

    name = "tensorboard"
    needs: Mapping[str, str] = {"tensorboard": "lossbench[tensorboard]"}
    off = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    @property
    def place(self) -> str:
        return str(self.folder)

    def send(self, story: Story) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2 as hparams
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        final = self.folder.joinpath(*map(_safe, (*story.group.split(" / "), f"{story.name} {story.id[:10]}")))
        part = final.with_name(f".{final.name}.{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        writer = EventFileWriter(str(part))

        def add(step: int, summary: Any) -> None:
            writer.add_event(event_pb2.Event(step=step, wall_time=story.finished, summary=summary))

        def scalar(name: str, value: float) -> Any:
            return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, simple_value=value)])

        try:
            add(0, hparams.hparams_pb({**story.params, **story.tags}, trial_id=story.id, start_time_secs=story.started))
            last = 0
            for name, points in story.series.items():
                for step, value in points:
                    add(step, scalar(name, value))
                    last = max(last, step)
            for name, value in story.scores.items():
                add(last, scalar(name, value))
        finally:
            writer.close()
        for old in self.folder.glob(f"*/*/*-{story.id[:10]}"):  # its loss may have been labelled otherwise
            shutil.rmtree(old)
        os.replace(part, final)


def _safe(name: str) -> str:
    """A single harmless path component."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "-", name).strip("-.") or "unnamed"
