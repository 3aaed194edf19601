"""What an audit found, for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from lossbench.audit import Check
from lossbench.views.data import json_text
from lossbench.views.grid import Entry, Grid, Header
from lossbench.views.terminal import draw, emit, print_notes, safe

#: Findings of one source that a terminal is shown.
_SHOWN = 40
#: Rules on pixels, not points.
_COUNTS = ("scored", "sidecar", "image")
#: Why each rule of lossbench.audit holds, for a reader.
WHY: Mapping[str, str] = {
    "range": "A score lies between 0 and 100 %.",
    "accuracy": "Class accuracy and recall are one formula, TP / (TP + FN) (Su et al. 2022, eq. 8 and 10): whatever "
    "they are averaged over, mAcc = mRec.",
    "iou_most": "IoU = TP / (TP + FP + FN) is at most the precision and the recall of its class; so are the means.",
    "iou_least": "1/IoU = 1/P + 1/R - 1 gives IoU >= P + R - 1 for a class, and so for means.",
    "iou": "1/IoU = 1/P + 1/R - 1 for a class.",
    "f1_iou": "F1 = 2 IoU / (1 + IoU) for a class.",
    "f1_pr": "F1 is the harmonic mean of precision and recall of a class.",
    "mf1_most": "F1 = 2 IoU / (1 + IoU) is concave: by Jensen's inequality (1906) mean F1 <= 2 mIoU / (1 + mIoU), if "
    "both means run over the same classes.",
    "mf1_least": "F1 >= IoU for every class, and so for means over the same classes.",
    "mf1_pr": "The harmonic mean is concave: by Jensen's inequality (1906) mean F1 <= 2 mP mR / (mP + mR), if all "
    "means run over the same classes.",
    "class_mean": "A mean over classes is the mean of the classes, if the table shows all of them; empty cells "
    "are left out.",
    "fwiou": "Frequency-weighted IoU is at most pixel accuracy, the mean of recall with the same weights.",
    "scored": "A run that did not diverge has scored pixels.",
    "sidecar": "The per-image counts of a record sum to those of its confusion matrix.",
    "image": "In every image each wrong pixel is one false positive and one false negative.",
    "readable": "A record must be whole, and its id the hash of the cell it says was run.",
}


@dataclass(frozen=True)
class Audited:
    """A source of rows: "table", "published" or "records"; how many rows and checks it has, and those that fail."""

    title: str
    kind: str
    rows: int
    checks: int
    found: Sequence[Check]
    notes: Sequence[str]

    @property
    def impossible_rows(self) -> int:
        return len({check.row for check in self.found})

    @property
    def verdict(self) -> str:
        wrong = self.impossible_rows
        said = f"{wrong} cannot be" if wrong else "all possible"
        return f"{self.rows} row{'s' * (self.rows != 1)}, {self.checks} checks: {said}"


def render(audited: Sequence[Audited], console: Console) -> None:
    """Print what cannot be in each source; then, once, why, and a last line for all."""
    for number, source in enumerate(audited):
        if number:
            console.print()
        emit(Text(safe(f"{source.title}: {source.verdict}", console), style="bold"), console)
        if source.found:
            console.print()
        shown = source.found[:_SHOWN]
        if shown:
            draw(_grid(shown), console)
        lines = [f"{check.row}, {check.score}: {check.hint}" for check in shown if check.hint]
        if len(source.found) > _SHOWN:
            lines.append(f"and {len(source.found) - _SHOWN} more (--json shows all)")
        lines += source.notes
        if lines:
            print_notes(lines, console)
    last = [WHY[rule] for rule in dict.fromkeys(check.rule for source in audited for check in source.found)]
    if len(audited) > 1:
        rows, wrong = sum(source.rows for source in audited), sum(source.impossible_rows for source in audited)
        last.append(f"{rows} rows in all: " + (f"{wrong} cannot be." if wrong else "all possible."))
    if last:
        print_notes(last, console)


def _grid(checks: Sequence[Check]) -> Grid:
    headers = [Header("row", numeric=False), Header("score", numeric=False), Header("printed")]
    headers += [Header("must be", numeric=False), Header(""), Header("off by")]
    rows = []
    for check in checks:
        subject = f"{check.row}: {check.subject}" if check.subject else check.row
        off = f"{check.off:.0f}" if check.rule in _COUNTS else f"{check.off:.{2 if check.off >= 0.01 else 4}f}"
        rows.append(
            [subject, check.score, check.printed, check.relation, check.expected, off if check.expected else ""]
        )
    return Grid(headers, [[Entry(text) for text in row] for row in rows])


def render_json(audited: Sequence[Audited]) -> str:
    """One object: `possible`, `rows`, `impossible_rows`, and `sources`, each with its `findings` in percent."""
    return json_text(
        {
            "unit": "percent",
            "possible": not any(source.found for source in audited),
            "rows": sum(source.rows for source in audited),
            "impossible_rows": sum(source.impossible_rows for source in audited),
            "sources": [_source(source) for source in audited],
        }
    )


def _source(source: Audited) -> dict[str, Any]:
    return {
        "source": source.title,
        "kind": source.kind,
        "rows": source.rows,
        "checks": source.checks,
        "impossible_rows": source.impossible_rows,
        "findings": [_finding(check) for check in source.found],
        "notes": list(source.notes),
    }


def _finding(check: Check) -> dict[str, Any]:
    found = asdict(check)
    del found["holds"]
    found["class"] = found.pop("subject")
    return found | {"off": round(check.off, 6), "why": WHY[check.rule]}
