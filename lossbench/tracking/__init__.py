"""`track:`: recorded cells sent to TensorBoard, MLflow or Weights & Biases through their own clients.

    record -> story.Story (curves, scores, parameters) -> a Tracker's `send`; sender.Sender does it beside a run

A cell is sent once, when its record is there: from the record alone, so that cells of earlier runs, of other machines
or of a cluster are sent alike, and a tracker that fails costs nothing but its own copy.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lossbench.errors import SetupError
from lossbench.track_schema import TrackSpec
from lossbench.tracking.story import Story


class Tracker(Protocol):
    """One place where stories go."""

    #: Of the extra, and of the folder of its marks.
    name: str

    def send(self, story: Story) -> None:
        """Write a story whole; one that is there already is left alone or replaced, never doubled. Raises whatever its
        client does."""


def open_trackers(specs: Sequence[TrackSpec], *, suite: str, folder: Path) -> list[Tracker]:
    """The trackers of a suite.

    Args:
        folder: `tracked/` of the results: where those write that name no other place.

    Raises:
        SetupError: a client is not installed.
    """
    for spec in specs:
        if importlib.util.find_spec(spec.name) is None:
            raise SetupError(f"track: {spec.name} is not installed", hint=f"pip install 'lossbench[{spec.name}]'")
        modules = (importlib.import_module(f"lossbench.tracking.to_{spec.name}") for spec in specs)
    return [module.open_tracker(spec, suite, folder) for module, spec in zip(modules, specs, strict=True)]
