"""The files that `lossbench new` writes: my_loss.py, my_backbone.py and my_dataset.py of this folder, renamed."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from lossbench.errors import ConfigError, SetupError, disk_error
from lossbench.registry import Kind, Registry

#: A longer one would break the lines of the templates.
_LONGEST = 30


def write(kind: Kind, name: str, folder: Path) -> Path:
    """Write `name`.py into a folder; returns the file.

    Raises:
        ConfigError: the name is no identifier, is taken, or would hide a Python module; the file is there already.
        SetupError: there is no such folder, or it cannot be written.
    """
    if not folder.is_dir():
        raise SetupError(f"no folder {folder}", hint="create it first")
    file = folder / f"{name}.py"
    if not file.exists():  # else that is what is wrong
        check_name(kind, name)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text(kind, name))
    except FileExistsError:
        raise ConfigError(f"{file} is there already", hint="choose another name, or another folder with --to") from None
    except OSError as error:
        raise disk_error(error) or error from None
    return file


def check_name(kind: Kind, name: str) -> None:
    """Raises ConfigError unless `name` can be the name of a new plugin, its function and its file."""
    if not name.isidentifier() or not name.isascii() or keyword.iskeyword(name):
        near = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
        near = near if near.isidentifier() and not keyword.iskeyword(near) else f"my_{near or kind}"
        raise ConfigError(f"'{name}' is no name for a {kind} (letters, digits, _)", hint=f"did you mean '{near}'?")
    if len(name) > _LONGEST:
        raise ConfigError(f"'{name}' has {len(name)} letters, {_LONGEST} are allowed")
    registry = Registry(kind)
    if name in registry:
        raise ConfigError(
            f"there is a {kind} '{name}' already: {registry.get(name).where}", hint=f"did you mean 'my_{name}'?"
        )
    if name in sys.stdlib_module_names or name == "lossbench" or importlib.util.find_spec(name) is not None:
        raise ConfigError(
            f"{name}.py would hide the Python module '{name}' from programs of its folder",
            hint=f"did you mean 'my_{name}'?",
        )


def text(kind: Kind, name: str) -> str:
    """The template with its names replaced."""
    template = Path(__file__).with_name(f"my_{kind}.py").read_text(encoding="utf-8")
    return template.replace(f"my_{kind}", name).replace(f"My{kind.capitalize()}", class_name(name))


def class_name(name: str) -> str:
    """my_loss -> MyLoss."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) or "Own"


def next_steps(kind: Kind, name: str, file: Path) -> str:
    """What to do with the file, for a terminal."""
    lines = {
        "loss": f"losses: [ce, {name}]",
        "backbone": f"backbones: [{name}]",
        "dataset": f"datasets: [{name}]",
    }
    return (
        f"next: edit it, then\n"
        f"  lossbench check {file}\n"
        f"and name it in a suite (lossbench list suites):\n"
        f"  plugins: [./{file.name}]\n"
        f"  {lines[kind]}\n"
    )
