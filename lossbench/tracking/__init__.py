"""`track:`: recorded cells sent to TensorBoard, MLflow or Weights & Biases through their own clients.

    record -> story.Story (curves, scores, parameters) -> a Tracker's `send`; sender.Sender does it beside a run

A record is sent once to each place, when it is there, and from it alone, so that cells of earlier runs, of other
machines or of a cluster are sent alike, and a tracker that fails costs nothing but its own copy.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lossbench.errors import SetupError
from lossbench.track_schema import TrackSpec
from lossbench.tracking.story import Story


class Tracker(Protocol):
    """One place where stories go.

    Attributes:
        name: of the client: of its extra, and of the folder of its marks.
        place: where it writes, whole and without secrets: another place has not been sent anything yet.
        needs: modules that must be there, and what to install for each.
        off: why nothing would be written; empty otherwise.
    """

    @property
    def name(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def needs(self) -> Mapping[str, str]: ...
    @property
    def off(self) -> str: ...

    def send(self, story: Story) -> None:
        """Write a story whole, for good when it returns; another story of the cell is replaced, the same one never
        doubled. Raises whatever its client does."""


def open_trackers(specs: Sequence[TrackSpec], *, suite: str, folder: Path, say: Callable[[str], None]) -> list[Tracker]:
    """The trackers of a suite, less those that the user has switched off.

    Args:
        folder: `tracked/` of the results: where those write that name no other place.
        say: told of those that are off.

    Raises:
        SetupError: a client, or what it needs for its place, is not installed.
    """
    found: list[Tracker] = []
    for spec in specs:
        client = importlib.import_module(f"lossbench.tracking.to_{spec.name}")
        tracker: Tracker = client.open_tracker(spec, suite, folder)
        if tracker.off:
            say(f"{tracker.name} is sent nothing: {tracker.off}")
            continue
        for module, package in tracker.needs.items():
            if not _installed(module):
                what = "is not installed" if module == tracker.name else f"needs {module}, which is not installed"
                raise SetupError(f"track: {tracker.name} {what}", hint=f"pip install '{package}'")
        found.append(tracker)
    return found


def _installed(module: str) -> bool:
    """A folder without code is not it: clients leave such as `./wandb` behind."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None
