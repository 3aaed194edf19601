"""The code of docs/using-losses.md runs as it stands; and importing a loss imports nothing heavy but torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lossbench.registry import Registry

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "using-losses.md").read_text(encoding="utf-8")


def blocks(heading: str) -> str:
    """The Python below a heading of the page, as one script."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = [part for part in section if part.startswith(heading)]
    found = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    return "\n".join(found)


def execute(heading: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "page"}
    with torch.random.fork_rng(devices=[]):
        exec(compile(blocks(heading), "docs/using-losses.md", "exec"), names)
    return names


def test_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = execute("A plain PyTorch loop", tmp_path, monkeypatch)
    assert names["loss"].isfinite()
    assert all(p.grad is not None for p in names["model"].parameters())


def test_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytorch_lightning", reason="pip install pytorch-lightning")
    names = execute("A Lightning module", tmp_path, monkeypatch)
    assert names["trainer"].global_step == 3
    assert any(key.startswith("loss.") for key in names["segmenter"].state_dict())


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="pip install transformers accelerate")
    pytest.importorskip("accelerate", reason="pip install transformers accelerate")
    names = execute("Hugging Face Trainer", tmp_path, monkeypatch)
    assert 0 < names["result"].training_loss < 1


def test_every_block_is_run_here() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert headings == ["A plain PyTorch loop", "A Lightning module", "Hugging Face Trainer"]


#: Of ours and of others': what a loss has no need of.
HEAVY = ("torchvision", "timm", "segmentation_models_pytorch", "pandas", "scipy", "matplotlib", "pydantic", "rich")
OURS = tuple(f"lossbench.{part}" for part in ("training", "execution", "data", "views", "cli", "conformance"))


@pytest.mark.slow
def test_importing_losses_imports_torch_and_nothing_else_heavy() -> None:
    classes = sorted({plugin.attribute for plugin in Registry("loss") if plugin.file.parent.name == "losses"})
    assert len(classes) > 20
    code = (
        "import torch, sys; before = set(sys.modules)\n"
        f"from lossbench.losses import {', '.join(classes)}\n"
        "new = set(sys.modules) - before; print(*sorted(new))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    new = done.stdout.split()
    assert "lossbench.losses.focal" in new
    assert not [name for name in new if name.split(".")[0] in HEAVY or name.startswith(OURS)]


def test_the_package_alone_imports_not_even_torch() -> None:
    code = "import sys, lossbench.losses; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
