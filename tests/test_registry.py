"""Discovery, validation and the errors of the registry."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any, Literal

import pytest

from lossbench.errors import ConfigError, ParameterError, UnknownNameError, did_you_mean
from lossbench.registry import GROUPS, KINDS, Plugin, Registry, scan_file
from lossbench.signatures import REQUIRED, Param, inspect_signature

ALL = [plugin for kind in KINDS for plugin in Registry(kind)]
HEADER = """
from typing import Literal
from torch import nn
from lossbench.registry import register_backbone, register_dataset, register_loss
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, code: str, header: str = HEADER) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(header + dedent(code))
        return file

    return write


def loss_of(file: Path, name: str = "mine") -> Plugin:
    return Registry("loss", plugins=[file]).get(name)


MINE = '''
@register_loss("mine")
class Mine(nn.Module):
    """My loss.

    More about it.
    """

    def __init__(self, class_counts, *, gamma: float = 2.0, mode: Literal["a", "b"] = "a",
                 weights: list[float] | None = None, power: int, ignore_index: int = 255):
        super().__init__()
        self.args = (class_counts, gamma, mode, weights, power, ignore_index)
'''


# --- every registered plugin ---


@pytest.mark.parametrize("plugin", ALL, ids=lambda p: f"{p.kind}-{p.name}")
def test_the_static_signature_is_the_real_one(plugin: Plugin) -> None:
    real = inspect_signature(plugin.load(), plugin.kind)
    assert (plugin.static_signature or real) == real


@pytest.mark.parametrize("plugin", ALL, ids=lambda p: f"{p.kind}-{p.name}")
def test_every_plugin_is_documented_and_its_defaults_are_valid(plugin: Plugin) -> None:
    assert plugin.summary
    assert plugin.file.is_file()
    assert f"register_{plugin.kind}" in plugin.file.read_text().splitlines()[plugin.line - 1]
    required = {name for name, param in plugin.params.items() if param.required}
    for name, param in plugin.params.items():
        assert param.type_name
        if name not in required:
            assert param.coerce(param.default) == param.default


@pytest.mark.parametrize("plugin", list(Registry("loss")), ids=lambda p: p.name)
def test_losses_are_static(plugin: Plugin) -> None:
    """Listing and validating a suite's losses needs no torch."""
    assert plugin.static_signature is not None


def test_the_mission_is_there() -> None:
    assert {"balanced_ce", "cdfl", "ce", "df", "focal", "lovasz_softmax"} <= set(Registry("loss").names())
    assert Registry("loss").names("c*") == [name for name in Registry("loss").names() if name.startswith("c")]


def test_listing_imports_neither_torch_nor_a_plugin() -> None:
    code = """
import sys
from lossbench.registry import KINDS, Registry
for kind in KINDS:
    [(p.name, p.summary, p.where) for p in Registry(kind)]
given = {"sum": {"terms": [{"name": "cdfl"}]}}
[(p.params, p.facts, p.resolve(given.get(p.name, {}))) for p in Registry("loss")]
print([name for name in sys.modules if name == "torch" or name.startswith("lossbench.losses.")])
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


# --- a plugin file ---


def test_plugin_file_by_path(write) -> None:
    plugin = loss_of(write("my_loss.py", MINE))
    assert plugin.summary == "My loss."
    assert plugin.facts == {"class_counts", "ignore_index"}
    assert plugin.params == {
        "gamma": Param("gamma", float, 2.0),
        "mode": Param("mode", Literal["a", "b"], "a"),
        "weights": Param("weights", list[float] | None, None),
        "power": Param("power", int, REQUIRED),
    }
    assert inspect_signature(plugin.load(), "loss") == plugin.static_signature
    loss = plugin.build({"power": 3, "gamma": 1}, class_counts=[1, 2], num_classes=2, ignore_index=0)
    assert loss.args == ([1, 2], 1.0, "a", None, 3, 0)
    assert isinstance(loss.args[1], float)


def test_one_file_may_hold_several_kinds_and_names(write) -> None:
    file = write(
        "mixed.py",
        '''
        @register_loss("one")
        @register_loss("two")
        class Loss(nn.Module):
            """Two names."""

        @register_dataset("three")
        def dataset(*, size: int = 3):
            """A function."""
            return size
        ''',
    )
    losses = Registry("loss", plugins=[file])
    assert losses.get("one").load() is losses.get("two").load()
    assert losses.get("one").params == {}
    assert losses.get("one").build({}, num_classes=3) is not None
    datasets = Registry("dataset", plugins=[file])
    assert "one" not in datasets
    assert datasets.get("three").build({}) == 3


def test_a_signature_that_is_not_static_is_imported(write) -> None:
    file = write(
        "dynamic.py",
        '''
        DEFAULT = 3.0
        Mode = Literal["x", "y"]

        class Base(nn.Module):
            def __init__(self, *, gamma: float = DEFAULT, mode: Mode = "x", quoted: "int" = 1):
                super().__init__()

        @register_loss("mine")
        class Mine(Base):
            """Inherits its constructor."""
        ''',
    )
    plugin = loss_of(file)
    assert plugin.static_signature is None
    assert [p.annotation for p in plugin.params.values()] == [float, Literal["x", "y"], int]
    assert plugin.params["gamma"].default == 3.0


def test_the_constructor_is_the_one_python_would_use(write) -> None:
    """A class of another file comes first in the bases: what it defines is not visible to the scan."""
    write(
        "mixin_of_another_file.py",
        """
        class Mixin:
            def __init__(self, *, theirs: int = 1):
                pass
        """,
    )
    file = write(
        "mine.py",
        '''
        import sys
        sys.path.insert(0, __file__.rpartition("/")[0])
        from mixin_of_another_file import Mixin
        sys.path.pop(0)

        class Local:
            def __init__(self, *, ours: int = 1):
                pass

        @register_loss("mine")
        class Mine(Mixin, Local):
            """Mixed."""
        ''',
    )
    assert list(loss_of(file).params) == ["theirs"]


def test_the_same_file_twice_is_no_duplicate(write) -> None:
    file = write("my_loss.py", MINE)
    assert "mine" in Registry("loss", plugins=[file, file.parent / "." / file.name])


# --- errors of a plugin file ---


def test_duplicates_name_both_places(write) -> None:
    one, two = write("one.py", MINE), write("two.py", MINE)
    with pytest.raises(ConfigError, match="loss 'mine' is registered twice") as caught:
        Registry("loss", plugins=[one, two]).names()
    line = one.read_text().splitlines().index('@register_loss("mine")') + 1
    assert f"{one}:{line}" in caught.value.message
    assert f"{two}:{line}" in caught.value.message


def test_a_duplicate_of_a_built_in_is_an_error_too(write) -> None:
    file = write("focal.py", MINE.replace("mine", "focal"))
    with pytest.raises(ConfigError, match="loss 'focal' is registered twice") as caught:
        Registry("loss", plugins=[file]).get("ce")
    assert str(Registry("loss").get("focal").file) in caught.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"def broken(:\n    pass\n", r"bad\.py:1: invalid syntax"),
        (b"x = '\xff'\n", "cannot be read as Python source"),
        (b"x = 1\0\n", "null bytes"),
        (b"name = 'x'\n@register_loss(name)\nclass X: ...\n", r"bad\.py:2: register_loss takes a literal name"),
        (b"@register_loss('my-loss')\nclass X: ...\n", r"bad\.py:1: 'my-loss' is no valid name"),
    ],
)
def test_a_file_that_cannot_be_scanned(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.py"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        Registry("loss", plugins=[file]).names()


def test_missing_plugin_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plugin file not found: .*nowhere\.py"):
        Registry("loss", plugins=[tmp_path / "nowhere.py"]).names()


def test_a_file_that_fails_to_import_is_listed_and_fails_on_use(write) -> None:
    file = write("my_loss.py", MINE + "\nimport a_module_that_is_not_there\n")
    plugin = loss_of(file)
    with pytest.raises(ConfigError, match=r"my_loss\.py failed to import: ModuleNotFoundError"):
        plugin.load()


def test_no_constructor_of_its_own_after_torch_has_patched_that_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch.compile does, for good."""
    from torch import nn

    class Mine(nn.Module):
        pass

    def patched(self: nn.Module, *args: Any, **kwargs: Any) -> None: ...

    monkeypatch.setattr(nn.Module, "__init__", patched)
    assert inspect_signature(Mine, "loss") == ((), frozenset())


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("self, gamma: float = 2.0", "parameter 'gamma' must be keyword-only"),
        ("self, *args", "parameter 'args' must be keyword-only"),
        ("self, **kwargs", "parameter 'kwargs' must be keyword-only"),
        ("self, *, gamma=2.0", "parameter 'gamma' needs a type annotation"),
        ("self, *, gamma: 'Missing' = 2.0", "annotation of its constructor cannot be evaluated"),
    ],
)
def test_a_constructor_that_breaks_the_contract(write, signature: str, message: str) -> None:
    file = write(
        "my_loss.py",
        f'''
        @register_loss("mine")
        class Mine(nn.Module):
            """Mine."""
            def __init__({signature}):
                super().__init__()
        ''',
    )
    plugin = loss_of(file)
    with pytest.raises(ConfigError, match=message) as caught:
        _ = plugin.params
    assert caught.value.message.startswith(f"{file}:{plugin.line}: ")


# --- names and parameters ---


@pytest.mark.parametrize(
    ("written", "meant"),
    [("lovasz", "lovasz_softmax"), ("foc", "focal"), ("fokal", "focal"), ("ce_lovas", "ce_lovasz"), ("zzz", None)],
)
def test_the_nearest_name(written: str, meant: str | None) -> None:
    known = ["ce", "ce_lovasz", "focal", "focal_tversky", "lovasz_softmax"]
    assert did_you_mean(written, known) == (meant and f"did you mean '{meant}'?")


def test_unknown_name_says_did_you_mean() -> None:
    with pytest.raises(UnknownNameError, match="unknown loss 'focall'") as caught:
        Registry("loss").get("focall")
    assert caught.value.hint == "did you mean 'focal'?"
    with pytest.raises(UnknownNameError) as caught:
        Registry("loss").get("zzz")
    assert caught.value.hint == f"known: {', '.join(Registry('loss').names())}"


def test_unknown_parameter(write) -> None:
    focal = Registry("loss").get("focal")
    with pytest.raises(ParameterError, match="loss 'focal' has no parameter 'gama'") as caught:
        focal.resolve({"gama": 2.0})
    assert (caught.value.parameter, caught.value.hint) == ("gama", "did you mean 'gamma'?")
    with pytest.raises(ParameterError) as caught:
        focal.resolve({"temperature": 2.0})
    assert caught.value.hint == "its parameters: gamma, alpha"
    bare = """
        @register_loss("mine")
        class Mine(nn.Module):
            def __init__(self, *, ignore_index: int = 255):
                super().__init__()
    """
    with pytest.raises(ParameterError) as caught:
        loss_of(write("my_loss.py", bare)).resolve({"temperature": 2.0})
    assert caught.value.hint == "its parameters: none"


@pytest.mark.parametrize("fact", ["ignore_index", "num_classes"])
def test_facts_are_not_the_users_to_set(fact: str) -> None:
    with pytest.raises(ParameterError, match=f"'{fact}' is filled in by lossbench"):
        Registry("loss").get("focal").resolve({fact: 3})


def test_missing_parameter(write) -> None:
    with pytest.raises(ParameterError, match=r"loss 'mine' needs a value for 'power' \(int\)") as caught:
        loss_of(write("my_loss.py", MINE)).resolve({})
    assert caught.value.parameter == "power"


@pytest.mark.parametrize(
    ("loss", "name", "value"),
    [
        ("focal", "gamma", "2"),
        ("focal", "gamma", True),
        ("focal", "gamma", None),
        ("focal", "gamma", [2.0]),
        ("focal", "gamma", float("nan")),
        ("focal", "gamma", float("inf")),
        ("focal", "alpha", ["x"]),
        ("cdfl", "passes", 5.5),
        ("cdfl", "passes", True),
        ("cdfl", "u_at", "nowhere"),
        ("cdfl", "grad_through_u", 1),
        ("cdfl", "grad_through_u", "yes"),
    ],
)
def test_mistyped_parameter(loss: str, name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=f"loss '{loss}': '{name}' must be ") as caught:
        Registry("loss").get(loss).resolve({name: value})
    assert caught.value.parameter == name


def test_resolve_fills_in_defaults_and_widens_integers() -> None:
    resolved = Registry("loss").get("focal").resolve({"gamma": 1, "alpha": [1, 2]})
    assert resolved == {"gamma": 1.0, "alpha": [1.0, 2.0]}
    assert isinstance(resolved["gamma"], float)
    assert Registry("loss").get("cdfl").resolve({})["omega"] == 0.01


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, False),
        (int | None, False),
        (Literal["a", "b"], False),
        (Path, False),
        (list[float], True),
        (list[float] | None, True),
        (float | list[float], True),
        (dict[str, int], False),
    ],
)
def test_takes_list_tells_a_value_from_a_grid_axis(annotation: Any, expected: bool) -> None:
    assert Param("x", annotation).takes_list is expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (float, "float"),
        (Path, "Path"),
        (float | list[float], "float | list[float]"),
        (Literal["a", "b"], "Literal['a', 'b']"),
        (Path | None, "Path | None"),
        (Literal["a"] | float, "Literal['a'] | float"),
        (dict[str, list[int]] | None, "dict[str, list[int]] | None"),
        (Any, "Any"),
    ],
)
def test_type_names_are_readable(annotation: Any, expected: str) -> None:
    assert Param("x", annotation).type_name == expected


def test_paths_are_coerced() -> None:
    assert Param("x", Path).coerce("a/b") == Path("a/b")
    assert Param("x", Path | None).coerce(Path("a/b")) == Path("a/b")


# --- entry points ---


@pytest.fixture
def install(write, tmp_path: Path, monkeypatch):
    """Pretend that a distribution with these entry points is installed."""

    def install(entry_points: str, **modules: str) -> None:
        for name, code in modules.items():
            write(f"site/their_losses/{name}.py", code)
        write("site/their_losses/__init__.py", "", header="")
        info = "site/their_losses-1.0.dist-info"
        write(f"{info}/METADATA", "Metadata-Version: 2.1\nName: their-losses\nVersion: 1.0\n", header="")
        write(f"{info}/entry_points.txt", entry_points, header="")
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        importlib.invalidate_caches()

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_losses"]:
        del sys.modules[name]


def test_entry_points(install) -> None:
    install(f"[{GROUPS['loss']}]\nany = their_losses.good\nagain = their_losses.good:Mine\n", good=MINE)
    plugin = Registry("loss").get("mine")
    assert plugin.module == "their_losses.good"
    assert "their_losses.good" not in sys.modules  # scanned, not imported
    assert plugin.build({"power": 1}, class_counts=[1], ignore_index=255).args[4] == 1
    assert "mine" not in Registry("dataset")


def test_an_entry_point_that_is_also_given_as_a_file(install, tmp_path: Path) -> None:
    install(f"[{GROUPS['loss']}]\nany = their_losses.good\n", good=MINE)
    assert "mine" in Registry("loss", plugins=[tmp_path / "site" / "their_losses" / "good.py"])


@pytest.mark.parametrize("module", ["their_losses.gone", "not_installed.losses"])
def test_an_entry_point_to_nowhere(install, module: str) -> None:
    install(f"[{GROUPS['loss']}]\nlost = {module}\n")
    with pytest.raises(ConfigError, match=r"entry point 'lost' of lossbench\.losses names no Python module") as caught:
        Registry("loss").names()
    assert caught.value.hint == "repair or uninstall their-losses"


def test_an_entry_point_that_fails_to_import(install) -> None:
    install(f"[{GROUPS['loss']}]\nbad = their_losses.bad\n", bad=MINE + "\n1 / 0\n")
    plugin = Registry("loss").get("mine")
    with pytest.raises(ConfigError, match=r"bad\.py failed to import: ZeroDivisionError"):
        plugin.load()


# --- the decorator ---


def test_a_subclass_does_not_inherit_the_mark(write) -> None:
    file = write(
        "family.py",
        '''
        @register_loss("parent")
        class Parent(nn.Module):
            """Parent."""

        class Between(Parent):
            """Not registered."""

        @register_loss("child")
        class Child(Between):
            """Child."""
        ''',
    )
    assert [plugin.name for plugin in scan_file(file, None)] == ["parent", "child"]
    child = loss_of(file, "child").load()
    assert child.__lossbench__ == (("loss", "child"),)
