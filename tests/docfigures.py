"""Figures on the pages under docs/: each is a block that names `lossbench figure ... -o docs/figures/NAME`.

Beside the picture lies NAME.json, what the command prints with --json. Numbers and ids of the records in it are worked
out again and compared, and the picture says the digest of its numbers. Panels show predictions, which are not
committed: their scores are worked out again from the records' counts per image.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lossbench import metrics
from lossbench.cells import short_hash
from lossbench.sidecar import read_sidecar
from lossbench.store import Store

Run = Callable[[Sequence[str], Path], tuple[str, str, int]]


class FigureError(Exception):
    """What is wrong with a figure of a page, in one line."""


def block_text(words: Sequence[str], root: Path, run: Run, *, draw: bool) -> str:
    """The picture and its caption, as they stand on the page; the picture and its numbers drawn anew with `draw`.

    Raises FigureError when the picture, its numbers and the records do not agree.
    """
    picture = root / words[words.index("-o") + 1]
    numbers = picture.with_suffix(".json")
    if draw:
        drawn = _json(run, words, root)
        numbers.write_text(json.dumps({**drawn, "file": picture.name}, indent=1, ensure_ascii=False) + "\n")
    try:
        facts = json.loads(numbers.read_text(encoding="utf-8"))
        inside = picture.read_bytes()
    except OSError as error:
        raise FigureError(f"{error.filename}: not there") from None
    if facts["numbers"] != short_hash({"data": facts["data"], "records": facts["records"]}):
        raise FigureError(f"{numbers.name}: its numbers are not those it was written with")
    if f"Numbers: {facts['numbers']}".encode() not in inside:
        raise FigureError(f"{picture.name}: drawn from other numbers than {numbers.name} holds")
    if facts["kind"] == "panels":
        _check_panels(facts, root)
    else:
        _check_numbers(facts, words, root, run)
    link = picture.relative_to(root / "docs").as_posix()
    return f"\n![{facts['title']}]({link})\n\n*{facts['caption']}*\n\n"


def _json(run: Run, words: Sequence[str], root: Path) -> dict[str, Any]:
    output, errors, code = run([*words, "--json"], root)
    if code or errors:
        raise FigureError(f"`lossbench {' '.join(words)}` exits with {code}: {errors.strip()}")
    found: dict[str, Any] = json.loads(output)
    return found


def _check_numbers(facts: dict[str, Any], words: Sequence[str], root: Path, run: Run) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = words.index("-o") + 1
        other = [*words[:place], str(Path(folder) / Path(words[place]).name), *words[place + 1 :]]
        now = _json(run, other, root)
    for key in ("caption", "title", "records", "data"):
        if now[key] != facts[key]:
            raise FigureError(f"{facts['file']}: its {key} are not what the records say")


def _check_panels(facts: dict[str, Any], root: Path) -> None:
    store = Store(root / "results")
    scores: dict[tuple[str, str], float] = {}
    for record_id in facts["records"]:
        stored = store.find(record_id)
        counts, names = read_sidecar(stored.path.with_suffix(".npz"), stored.record)
        for name, each in zip(names, counts, strict=True):
            scores[stored.record.labels["loss"], name] = 100 * float(metrics.mean(metrics.class_scores(each)["iou"]))
    for shown in facts["data"]:
        for loss, miou in shown["miou"].items():
            if abs(scores[loss, shown["image"]] - miou) > 1e-9:
                raise FigureError(f"{facts['file']}: mIoU of {loss} on {shown['image']} is not what its record says")
