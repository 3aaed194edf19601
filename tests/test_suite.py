"""The suite: what it means (grids, seeds, overrides, exclusions), and what is said of a wrong one, with its line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lossbench.errors import ConfigError
from lossbench.protocol import Protocol
from lossbench.suite import Suite, find_suite, known_suites, load_suite, matches

PLUGINS = '''
from pathlib import Path
from typing import Literal

from lossbench.registry import register_backbone, register_dataset, register_loss

raise RuntimeError("a suite must be validated without importing its plugins")


@register_loss("toy_ce")
class ToyCE:
    """Toy cross-entropy."""

    def __init__(self, *, ignore_index: int = 255): ...


@register_loss("toy_focal")
class ToyFocal:
    """Toy focal loss."""

    def __init__(self, num_classes: int, *, gamma: float = 2.0, alpha: float | list[float] = 1.0,
                 detach: bool = True, mode: Literal["raw", "unit"] = "raw", passes: int = 5): ...


@register_backbone("toy_net")
class ToyNet:
    """Toy network."""

    def __init__(self, num_classes: int, *, weights: Literal["none", "imagenet"] | Path = "none"): ...


@register_dataset("toy_data")
class ToyData:
    """Toy data."""

    def __init__(self, *, root: Path, images: Path, sizes: list[int] = [1, 2]): ...
'''

BASE = """\
datasets: [{name: toy_data, images: pictures}]
backbones: [toy_net]
losses: [toy_ce]
plugins: [plugins.py]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a plugin file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins.py").write_text(PLUGINS)
    return tmp_path


def suite(text: str = "", *, losses: str | None = None, base: str = BASE) -> Suite:
    if losses is not None:
        base = base.replace("[toy_ce]", losses)
    Path("mine.yaml").write_text(base + text)
    return load_suite("mine.yaml")


def labels(loaded: Suite) -> list[str]:
    return [cell.loss.label for cell in loaded.cells()]


# --- what a suite means ---


def test_the_least_suite(folder: Path) -> None:
    loaded = suite()
    assert loaded.name == "mine"
    assert loaded.protocol == Protocol()
    (cell,) = loaded.cells()
    assert cell.name == "toy_data(images=pictures)/toy_net/toy_ce/seed0"
    assert cell.loss.params == {}
    assert cell.backbone.params == {"weights": "none"}


def test_sections_left_empty_are_defaults(folder: Path) -> None:
    assert suite("protocol:\n  # lr: 1\nexclude:\noverrides:\nresources:\n").protocol == Protocol()


def test_a_list_is_a_grid_axis(folder: Path) -> None:
    loaded = suite(losses="[toy_ce, {name: toy_focal, gamma: [0, 2.0], passes: [3, 5]}]")
    assert labels(loaded) == [
        "toy_ce",
        "toy_focal(gamma=0, passes=3)",
        "toy_focal(gamma=0, passes=5)",
        "toy_focal(gamma=2, passes=3)",
        "toy_focal(gamma=2, passes=5)",
    ]
    # defaults are filled in, but only what was spelled out is in the label
    assert loaded.losses[1].params["alpha"] == 1.0
    assert loaded.losses[1].params["gamma"] == 0.0
    assert isinstance(loaded.losses[1].params["gamma"], float)


def test_a_list_for_a_parameter_that_takes_lists_is_a_value(folder: Path) -> None:
    assert labels(suite(losses="[{name: toy_focal, alpha: [0.25, 0.75]}]")) == ["toy_focal(alpha=[0.25,0.75])"]
    grid = suite(losses="[{name: toy_focal, alpha: [[0.25, 0.75], 0.5]}]")
    assert [loss.params["alpha"] for loss in grid.losses] == [[0.25, 0.75], 0.5]


def test_spelling_out_a_default_changes_no_cell(folder: Path) -> None:
    plain = suite(losses="[toy_focal]").cells()
    spelled = suite("protocol: {lr: 0.01, scale: [0.5, 2]}\n", losses="[{name: toy_focal, gamma: 2}]").cells()
    assert [cell.id for cell in plain] == [cell.id for cell in spelled]
    # and the same cell reached twice is one
    both = suite(losses="[toy_focal, {name: toy_focal, gamma: [2, 2.0]}]")
    assert [cell.id for cell in both.cells()] == [cell.id for cell in plain]


def test_seeds(folder: Path) -> None:
    assert suite("seeds: 3").seeds == (0, 1, 2)
    assert suite("seeds: [7, 1, 7]").seeds == (7, 1)


def test_order_is_dataset_backbone_seed_loss(folder: Path) -> None:
    loaded = suite("seeds: 2\n", losses="[toy_focal, toy_ce]")
    assert [(cell.seed, cell.loss.name) for cell in loaded.cells()] == [
        (0, "toy_focal"), (0, "toy_ce"), (1, "toy_focal"), (1, "toy_ce"),
    ]  # fmt: skip


def test_overrides_apply_in_order_to_the_cells_they_match(folder: Path) -> None:
    loaded = suite(
        """\
protocol: {batch_size: 8, lr: 0.1}
resources: {cpus: 2, minutes: 10}
overrides:
  - {match: "*/toy_focal*", protocol: {batch_size: 6, lr: 1}, resources: {gpus: 0.5}}
  - {match: "*seed0", protocol: {lr: 0.5}, resources: {minutes: 20}}
seeds: 2
""",
        losses="[toy_ce, toy_focal]",
    )
    protocols = {(c.loss.name, c.seed): (c.protocol.batch_size, c.protocol.lr) for c in loaded.cells()}
    assert protocols == {
        ("toy_ce", 0): (8, 0.5), ("toy_focal", 0): (6, 0.5), ("toy_ce", 1): (8, 0.1), ("toy_focal", 1): (6, 1.0),
    }  # fmt: skip
    asked = {(c.loss.name, c.seed): loaded.resources_of(c) for c in loaded.cells()}
    assert (asked["toy_focal", 0].gpus, asked["toy_focal", 0].cpus, asked["toy_focal", 0].minutes) == (0.5, 2, 20)
    assert (asked["toy_ce", 1].gpus, asked["toy_ce", 1].minutes) == (None, 10)


def test_resources_are_no_part_of_the_identity(folder: Path) -> None:
    assert suite("resources: {cpus: 3}").cells()[0].id == suite().cells()[0].id


def test_exclude(folder: Path) -> None:
    loaded = suite("seeds: 2\nexclude: ['*/toy_ce/seed1']\n", losses="[toy_ce, toy_focal]")
    assert [(cell.loss.name, cell.seed) for cell in loaded.cells()] == [
        ("toy_ce", 0), ("toy_focal", 0), ("toy_focal", 1),
    ]  # fmt: skip


def test_paths_are_relative_to_the_suite_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = suite(base=BASE.replace("[toy_net]", "[{name: toy_net, weights: plugins.py}]"))
    (dataset,), (backbone,) = home.datasets, home.backbones
    assert dataset.params["images"] == folder / "pictures"
    assert backbone.params["weights"] == folder / "plugins.py"
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "sub").mkdir()
    moved = elsewhere / "sub" / "moved.yaml"
    moved.write_text(BASE.replace("plugins.py", "../plugins.py"))
    (elsewhere / "plugins.py").write_text(PLUGINS)
    assert load_suite(moved).datasets[0].params["images"] == elsewhere / "sub" / "pictures"


def test_plugins_from_the_command_line(folder: Path) -> None:
    Path("mine.yaml").write_text(BASE.replace("plugins: [plugins.py]\n", ""))
    with pytest.raises(ConfigError, match="unknown"):
        load_suite("mine.yaml")
    loaded = load_suite("mine.yaml", plugins=[Path("plugins.py")])
    assert loaded.plugin_files == (folder.resolve() / "plugins.py",)
    assert "toy_focal" in loaded.registries["loss"].names()
    # given twice is once
    Path("mine.yaml").write_text(BASE)
    assert len(load_suite("mine.yaml", plugins=[Path("plugins.py")]).plugin_files) == 1


@settings(max_examples=25, deadline=None)
@given(
    gammas=st.lists(st.floats(0, 9), min_size=1, max_size=4),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4),
)
def test_grid_times_seeds_without_duplicates(
    tmp_path_factory: pytest.TempPathFactory, gammas: list[float], seeds: list[int]
) -> None:
    home = tmp_path_factory.getbasetemp()
    (home / "plugins.py").write_text(PLUGINS)
    text = BASE.replace("[toy_ce]", f"[{{name: toy_focal, gamma: {gammas!r}}}]") + f"seeds: {seeds}\n"
    (home / "grid.yaml").write_text(text)
    cells = load_suite(home / "grid.yaml").cells()
    assert len(cells) == len(set(gammas)) * len(set(seeds))
    assert len({cell.id for cell in cells}) == len(cells)


def test_matches() -> None:
    name = "streets/net/focal(alpha=[0.25,0.75])/seed0"
    assert matches(name, "*/focal*")
    assert matches(name, "*/focal(alpha=[0.25,0.75])/*")
    assert matches(name, "*/seed[01]")
    assert not matches(name, "focal*")


# --- what is said of a wrong one ---


@pytest.mark.parametrize(
    ("text", "line", "words", "hint"),
    [
        ("seedss: 2", 5, "unknown key 'seedss'", "did you mean 'seeds'?"),
        ("seeds: 0", 5, "a bare number is how many seeds", None),
        ("seeds: 12345", 5, "write [12345]", None),
        ("seeds:\n  - 1\n  - a", 7, "seeds[1]: must be an integer, got 'a'", None),
        ("seeds: [-1]", 5, "seeds[0]: must be greater than or equal to 0", None),
        ("protocol:\n  iteration: 3", 6, "unknown key 'iteration' in protocol", "did you mean 'iterations'?"),
        ("protocol:\n  iterations: 1e3", 6, "protocol.iterations: must be an integer", "write 1000"),
        ("protocol: {iterations: -4}", 5, "must be greater than 0, got -4", None),
        ("protocol: {channels_last: no}", 5, "must be a boolean, got 'no'", "write false instead of no"),
        ("protocol: {optimizer: adam}", 5, "must be 'sgd' or 'adamw'", "did you mean 'adamw'?"),
        ("protocol:\n  lr: 1\n  accumulate: 3", 6, "accumulate (3) must divide batch_size (8)", None),
        ("protocol: {crop: [96]}", 5, "protocol.crop: must have at least 2 items, not 1", None),
        ("exclude: toy_ce", 5, "exclude: must be a list, got 'toy_ce'", "write [toy_ce]"),
        ("exclude: [toy_ce]", 5, "'toy_ce' matches no cell", "did you mean '*toy_ce*'?"),
        ("exclude: ['*/nothing/*']", 5, "matches no cell", "a cell's name looks like 'toy_data(images=pictures)/"),
        ("exclude: ['*']", 5, "every cell is excluded", None),
        ("overrides:\n  - match: '*x'\n    protocol: {lr: 1}", 6, "'*x' matches no cell", "looks like"),
        ("overrides:\n  - match: '*'\n    protocol: {lrr: 1}", 7, "unknown key 'lrr' in overrides.protocol", "'lr'"),
        ("overrides:\n  - match: '*'\n    protocol: {lr: -1}", 7, "must be greater than 0", None),
        ("overrides:\n  - {match: '*'}", 6, "an override needs 'protocol' or 'resources'", None),
        ("overrides: [{match: '*', protocol: {accumulate: 3}}]", 5, "accumulate (3) must divide batch_size", None),
        ("resources: {gpu: 1}", 5, "unknown key 'gpu' in resources", "did you mean 'gpus'?"),
        ("resources: {gpus: 1.5}", 5, "gpus must be whole, or a fraction below 1", None),
        ("resources: {minutes: 0}", 5, "resources.minutes: must be greater than 0", None),
        ("name: 3", 5, "name: must be a string, got 3", None),
        ("1: 2", 5, "a key must be text", None),
    ],
)
def test_wrong_keys_and_values(folder: Path, text: str, line: int, words: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        suite(text)
    assert caught.value.message.startswith(f"mine.yaml:{line}: ")
    assert words in caught.value.message
    assert (hint or "") in (caught.value.hint or "")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("loss", "line", "words", "hint"),
    [
        ("toy_focl", 5, "unknown loss 'toy_focl'", "did you mean 'toy_focal'?"),
        ("name: toy_focal\n    gama: 1", 6, "has no parameter 'gama'", "did you mean 'gamma'?"),
        ("name: toy_focal\n    gamma: x", 6, "'gamma' must be float, got 'x'", None),
        ("name: toy_focal\n    gamma: '1e-4'", 6, "'gamma' must be float", "remove the quotes around 1e-4"),
        ("name: toy_focal\n    gamma:\n      - 1\n      - a", 8, "'gamma' must be float, got 'a'", None),
        ("name: toy_focal\n    gamma: []", 6, "the grid of 'gamma' is empty", None),
        ("name: toy_focal\n    passes: 2.5", 6, "'passes' must be int", None),
        ("name: toy_focal\n    detach: off", 6, "'detach' must be bool", "write false instead of off"),
        ("name: toy_focal\n    mode: units", 6, "'mode' must be", "did you mean 'unit'?"),
        ("name: toy_focal\n    num_classes: 3", 6, "is filled in by lossbench", None),
        ("gamma: 3", 5, "'name' is missing", "write a name, or {name: ..., parameter: value}"),
        ("toy_focal: {gamma: 3}", 5, "'name' is missing", "write a name"),
        ("3", 5, "losses[0]: must be a name or a mapping", "write a name"),
    ],
)
def test_wrong_losses(folder: Path, loss: str, line: int, words: str, hint: str | None) -> None:
    base = BASE.replace("losses: [toy_ce]\n", "")
    with pytest.raises(ConfigError) as caught:
        suite(f"losses:\n  - {loss}\n", base=base.replace("plugins:", "plugins:", 1))
    assert caught.value.message.startswith(f"mine.yaml:{line}: ")
    assert words in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("losses: [toy_ce]\n", "", 1, "'losses' is missing"),
        ("losses: [toy_ce]", "losses:", 3, "losses: must be a list, got nothing"),
        ("losses: [toy_ce]", "losses: []", 3, "losses: must have at least 1 item"),
        ("losses: [toy_ce]", "losses: toy_ce", 3, "losses: must be a list"),
        ("[toy_net]", "[{name: toy_net, weights: missing.pt}]", 2, "no such file"),
        (", images: pictures", "", 1, "needs a value for 'images'"),
        ("plugins.py", "plugin.py", 4, "plugin file not found"),
    ],
)
def test_wrong_sections(folder: Path, old: str, new: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        suite(base=BASE.replace(old, new))
    assert words in caught.value.message
    assert caught.value.message.startswith(f"mine.yaml:{line}: ")


def test_a_plugin_file_with_a_syntax_error(folder: Path) -> None:
    Path("plugins.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(ConfigError, match=r"plugins.py:2: invalid syntax"):
        suite()


def test_a_plugin_file_that_registers_nothing(folder: Path) -> None:
    Path("plugins.py").write_text("x = 1\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:4: plugins.py registers no loss, backbone or dataset"):
        suite()


def test_the_first_few_problems_are_told_together(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        suite("protocol:\n  a: 1\n  b: 2\n  lr: x\nseeds: y\nname: 3\nextra: 4\nseed: 5\n")
    assert len(caught.value.message.splitlines()) == 5
    assert all(line.startswith("mine.yaml:") for line in caught.value.message.splitlines())
    assert caught.value.hint == "and 2 more"


@pytest.mark.parametrize("text", ["- 1\n", "words\n", "3\n"])
def test_no_mapping(folder: Path, text: str) -> None:
    Path("mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"mine.yaml:1: a suite is a mapping of keys"):
        load_suite("mine.yaml")


# --- finding one ---


def test_names_are_looked_up_here_first_then_among_the_shipped(folder: Path) -> None:
    shipped = known_suites()
    assert {"quickstart", "camvid"} <= set(shipped)
    Path("suites").mkdir()
    Path("suites/quickstart.yaml").write_text(BASE)
    Path("suites/own.yml").write_text(BASE)
    assert find_suite("quickstart") == Path("suites/quickstart.yaml")
    assert find_suite("own") == Path("suites/own.yml")
    assert find_suite("camvid") == shipped["camvid"]
    # an existing path wins
    Path("camvid").write_text(BASE)
    assert find_suite("camvid") == Path("camvid")


@pytest.mark.parametrize(
    ("asked", "words", "hint"),
    [
        ("quikstart", "no suite 'quikstart'", "did you mean 'quickstart'?"),
        ("nowhere/quickstart.yaml", "nowhere/quickstart.yaml: no such file", "did you mean 'quickstart'?"),
        ("sub/mine.yml", "sub/mine.yml: no such file", "did you mean 'sub/mine.yaml'?"),
        (
            "zzzzzz",
            "no suite 'zzzzzz'",
            "known suites: ablation, camvid, catalogue_streets, paper, paper_backbones, paper_voc, quickstart",
        ),
        ("sub", "sub is a folder", None),
    ],
)
def test_unknown_suites(folder: Path, asked: str, words: str, hint: str | None) -> None:
    Path("sub").mkdir()
    Path("sub/mine.yaml").write_text(BASE)
    with pytest.raises(ConfigError) as caught:
        find_suite(asked)
    assert words in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


# --- cost ---


def test_loading_imports_no_torch(folder: Path) -> None:
    suite()
    code = "import sys; from lossbench.suite import load_suite; load_suite('mine.yaml').cells(); " \
        "print([m for m in ('torch', 'pandas', 'numpy') if m in sys.modules])"  # fmt: skip
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def test_loading_is_quick(folder: Path) -> None:
    text = "seeds: 20\n"
    losses = "[toy_ce, {name: toy_focal, gamma: [0, 1, 2, 3], passes: [1, 2, 3]}]"
    suite(text, losses=losses)  # the first time compiles
    start = time.process_time()
    cells = suite(text, losses=losses).cells()
    assert len(cells) == 260
    assert time.process_time() - start < 2  # far above what it takes, also on a busy machine
