"""What `lossbench check` and the pytest options are told to check."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lossbench import registry
from lossbench.conformance.targets import find, parse_params, plugin_of
from lossbench.errors import ConfigError, UnknownNameError

LOSS = '''
from lossbench.registry import register_loss

@register_loss("{name}")
class Own:
    """Own."""
    def __init__(self, *, gamma: float = 2.0, ignore_index: int = 255): ...
'''


def names(target: str, **options: object) -> list[str]:
    return [f"{plugin.kind} {plugin.name}" for plugin in find(target, **options)]  # type: ignore[arg-type]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kit_pkg"]:
        del sys.modules[name]  # of another test
    folder = tmp_path / "kit_pkg"
    (folder / "more").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "losses.py").write_text(LOSS.format(name="kit_a") + LOSS.format(name="kit_b"))
    (folder / "more" / "__init__.py").write_text(LOSS.format(name="kit_c").replace("register_loss", "register_dataset"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_name_a_file_a_module_a_package_and_a_name_in_one(package: Path) -> None:
    assert names("focal") == ["loss focal"]
    assert names(str(package / "losses.py")) == names("kit_pkg.losses") == ["loss kit_a", "loss kit_b"]
    assert names("kit_pkg") == ["loss kit_a", "loss kit_b", "dataset kit_c"]
    assert names("kit_pkg", kind="dataset") == ["dataset kit_c"]
    assert names("kit_pkg.losses.kit_b") == ["loss kit_b"]
    assert [plugin.module for plugin in find("kit_pkg", kind="dataset")] == ["kit_pkg.more"]


def test_what_another_process_is_told_finds_it_again(package: Path) -> None:
    for target in ("kit_pkg.losses", str(package / "losses.py"), "focal"):
        plugin = find(target)[-1]
        again = plugin_of(plugin.kind, plugin.name, plugin.file, plugin.module)
        assert (again.name, again.line, again.module) == (plugin.name, plugin.line, plugin.module)
        assert again.peer("ce").name == "ce"


@pytest.mark.parametrize(
    ("target", "error", "said", "hint"),
    [
        ("fokal", UnknownNameError, "nor is it a file or an installed package", "did you mean 'focal'?"),
        ("no.such.module", UnknownNameError, "no loss, backbone or dataset", "a file is named with its ending"),
        ("nowhere.py", ConfigError, "no such file: nowhere.py", "lossbench new"),
        ("json", ConfigError, "json registers no loss, backbone or dataset", "@register_loss"),
    ],
)
def test_what_is_not_there(target: str, error: type[ConfigError], said: str, hint: str) -> None:
    with pytest.raises(error, match=said) as caught:
        find(target)
    assert hint in (caught.value.hint or "")


def test_a_name_that_is_taken_is_an_error_here_too(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOSS.format(name="focal"))
    with pytest.raises(ConfigError, match="'focal' is registered twice"):
        find(str(tmp_path / "own.py"))


def test_the_file_that_is_named_wins_over_an_installed_copy(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a package that is installed, not editable, and checked in its source folder."""
    entry = EntryPoint("kit_a", "kit_pkg.losses", "lossbench.losses")
    monkeypatch.setattr(registry, "_all_entry_points", lambda path: (entry,))
    assert find("kit_a")[0].file == package / "losses.py"
    source = tmp_path / "source.py"
    source.write_text(LOSS.format(name="kit_a"))
    (found,) = find(str(source))
    assert found.file == source
    assert found.peer("kit_a").file == source
    assert found.peer("kit_b").file == package / "losses.py"
    assert plugin_of("loss", "kit_a", source, None).file == source
    with pytest.raises(ConfigError, match="'kit_a' is registered twice"):
        registry.Registry("loss", [source]).names()  # in a suite it is not said which is meant
    source.write_text(2 * LOSS.format(name="kit_a"))
    with pytest.raises(ConfigError, match="'kit_a' is registered twice"):
        find(str(source))


def test_a_folder_is_said_to_be_one(package: Path, tmp_path: Path) -> None:
    (tmp_path / "b_dir.py").mkdir()
    (tmp_path / "plain").mkdir()
    for target in ("b_dir.py", "plain/", "plain"):
        with pytest.raises(ConfigError, match="is a folder"):
            find(target)


def test_the_name_a_package_is_installed_under(package: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        find("kit-pkg")
    assert caught.value.hint == "lossbench check kit_pkg"


def test_a_name_of_another_kind() -> None:
    with pytest.raises(UnknownNameError, match="no dataset is called 'dice': it is a loss") as caught:
        find("dice", kind="dataset")
    assert caught.value.hint == "lossbench check loss dice"


def test_a_package_that_fails_to_import_is_the_users(package: Path) -> None:
    (package / "__init__.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="failed to import: ZeroDivisionError"):
        find("kit_pkg.losses")


def test_parameters_are_yaml() -> None:
    assert parse_params(["gamma=3", "mode=unit", "terms=[{name: ce, weight: 1e-1}]"]) == {
        "gamma": 3,
        "mode": "unit",
        "terms": [{"name": "ce", "weight": 0.1}],
    }
    for wrong, said in (("gamma", "not NAME=VALUE"), ("=3", "not NAME=VALUE"), ("a=[", "--param a")):
        with pytest.raises(ConfigError, match=said):
            parse_params([wrong])
    with pytest.raises(ConfigError, match="given twice"):
        parse_params(["a=1", "a=2"])
