"""What is cheap stays cheap: the reading verbs import no torch. And imports point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from lossbench.cli.main import VERBS
from lossbench.registry import GROUPS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lossbench"
HEAVY = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "pandas", "scipy", "matplotlib")
#: What takes longer to import than to do without, where nothing is parsed, computed or drawn.
SLOW = (*HEAVY, "typer", "pydantic", "numpy", "rich")
LIGHTEST = {"--help": SLOW, "--version": SLOW, "list losses": SLOW[:-1], "list backbones": SLOW[:-1]}
LIGHTEST |= {"list datasets --json": SLOW, "leaderboard --results nowhere": (*HEAVY, "typer", "pydantic")}
#: Calls that must stay light, by verb; the help of every verb must.
CALLS = {
    "list": ["list losses", "list backbones", "list datasets --json", "list suites"],
    "plan": ["plan quickstart --results nowhere"],
    "status": ["status quickstart --results nowhere"],
    "leaderboard": ["leaderboard --results nowhere", "leaderboard --results nowhere --published"],
    "schema": ["schema", "schema --shipped"],
    "new": ["new loss focal --to nowhere"],
    "diagnostics": ["diagnostics --results nowhere"],
    "merge": ["merge results --results nowhere --dry-run"],
    "verify": ["verify results --no-index", "verify results --changed-since HEAD --summary /dev/null"],
    "submit": ["submit --from results --to nowhere --dry-run"],
    "audit": ["audit --results nowhere", "audit --published"],
}
LIGHT = [
    "--help",
    *(f"{verb} --help" for verb, _ in VERBS),
    *(call for verb, _ in VERBS for call in CALLS.get(verb, [])),
]


@pytest.mark.parametrize("call", [*LIGHT, "--version"])
def test_imports_nothing_heavy(call: str) -> None:
    heavy = LIGHTEST.get(call, HEAVY)
    # The exit code does not matter here: a leaderboard of nothing may complain.
    code = (
        "import sys; from lossbench.cli.main import run; run(sys.argv[2:]); "
        "print('heavy:', [m for m in sys.argv[1].split(',') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ",".join(heavy), *call.split()],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("heavy: []\n"), done.stdout + done.stderr


def imported(file: Path) -> set[str]:
    """Names of the lossbench modules a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name == "lossbench" or name.startswith("lossbench.")}


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file: Path) -> None:
    folder = ".".join(file.relative_to(ROOT).parent.parts)
    names = imported(file)
    if folder != "lossbench.cli" and file.name != "__main__.py":
        assert not {name for name in names if inside(name, "lossbench.cli")}, "nothing imports the command line"
    for group in GROUPS.values():
        if inside(folder, group):
            allowed = ("lossbench.registry", "lossbench.errors", group)
            foreign = {name for name in names if name != "lossbench" and not any(inside(name, a) for a in allowed)}
            assert not foreign, f"a plugin imports nothing of the engine but {allowed}"
