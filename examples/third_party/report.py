"""Checks the wrapped losses of this folder and prints the tables of docs/third-party.md.

python examples/third_party/report.py > tables.md       # needs monai and kornia: pip install 'lossbench[bench]'
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = {"smp": "segmentation-models-pytorch", "monai": "monai", "kornia": "kornia"}
#: Ours, to stand beside them.
OURS = ("focal", "dice", "lovasz_softmax", "tversky")


def checked(*arguments: str) -> list[dict[str, Any]]:
    """What `lossbench check --json` says; empty where the library is missing."""
    command = [sys.executable, "-m", "lossbench", "check", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        print(done.stderr, file=sys.stderr)
        return []
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


def failures(reports: list[dict[str, Any]]) -> str:
    """A row for each rule that fails."""
    rows = ["| loss | rule | fed | got | expected |", "|---|---|---|---|---|"]
    for report in reports:
        for rule in report["rules"]:
            if not rule["ok"]:
                cells = (rule["rule"], rule["fed"], rule["got"], rule["expected"])
                rows.append(f"| `{report['name']}` | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def cards(reports: list[dict[str, Any]]) -> str:
    """A row for each loss: its standing on trained logits, its cost on the Cityscapes crops."""
    rows = [
        "| loss | rules failed | value | gradient / CE | on rare classes | perfect batch | x CE | memory x CE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        card = report["card"]
        failed = sum(not rule["ok"] for rule in report["rules"])
        trained = card["standing"][1]
        cost = next((c for c in card["costs"] if c["name"] == "Cityscapes crops"), None)
        timed = f"{cost['ratio']:.1f} | {cost['memory'] / cost['ce_memory']:.1f}" if cost else "- | -"
        rows.append(
            f"| `{report['name']}` | {failed} | {trained['value']:.3g} | {trained['gradient']:.2g} | "
            f"{100 * trained['rare']:.1f} % | {card['absent']['perfect']:.2g} | {timed} |"
        )
    return "\n".join(rows)


def main() -> None:
    theirs = [report for name in PACKAGES for report in checked(str(HERE / f"{name}_losses.py"))]
    ours = [report for name in OURS for report in checked(name)]
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}" for package in ["torch", *PACKAGES.values()]
    )
    print(f"Versions: {versions}.\n")
    print(cards([*ours, *theirs]), failures(theirs), sep="\n\n")


if __name__ == "__main__":
    main()
