"""cityscapesscripts' own evaluator, in a process of its own (it keeps its arguments in globals)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Scores weighted by the size of instances need other files, and a function that newer versions of numpy lack.
_RUN = (
    "from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as e\n"
    "e.args.evalInstLevelScore = False\n"
    "e.main()"
)


def evaluate_cityscapes(dataset: Path, predictions: Path, export: Path) -> dict[str, Any]:
    """Its JSON: confMatrix (34, 34), classScores by class name (NaN: in neither), averageScoreClasses."""
    export.mkdir(parents=True, exist_ok=True)
    places = {"CITYSCAPES_DATASET": dataset, "CITYSCAPES_RESULTS": predictions, "CITYSCAPES_EXPORT_DIR": export}
    done = subprocess.run(
        [sys.executable, "-c", _RUN],
        env=os.environ | {key: str(path) for key, path in places.items()},
        capture_output=True,
        text=True,
    )
    file = export / "resultPixelLevelSemanticLabeling.json"
    assert done.returncode == 0, done.stdout + done.stderr
    assert file.is_file(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(file.read_text())
    return found
