"""Every rule about datasets can fail. (That ours pass is tests/datasets/test_contract.py's.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossbench.conformance import check, check_rule, rules
from lossbench.conformance.datasets.watch import believed_changed, opened_files
from lossbench.errors import DataError
from lossbench.registry import Registry

BROKEN = Registry("dataset", plugins=[Path(__file__).with_name("broken_datasets.py")])

#: Broken dataset -> the rule made for its fault, and a part of what the report must say.
FAULTS: dict[str, tuple[str, str]] = {
    "undocumented": ("contract", "docstring"),
    "unlicensed": ("contract", "licence = ''"),
    "same_colors": ("contract", "2 distinct"),
    "void_is_a_class": ("contract", "no class"),
    "not_a_dataset": ("contract", "a NotADataset"),
    "unordered": ("names", "other names"),
    "twins": ("names", "1 distinct"),
    "any_split": ("errors", "names('nowhere')"),
    "key_error": ("errors", "KeyError"),
    "foreign_id": ("pairs", "foreign ids [7]"),
    "other_size": ("pairs", "(6, 8)"),
    "only_void": ("pairs", "only void"),
    "augments": ("determinism", "other bits"),
    "draws": ("determinism", "global seeds changed"),
    "shared_buffer": ("threads", "other bits at images"),
    "locked": ("pickling", "cannot pickle"),
    "second_load": ("counts", "pixels"),
    "stale_cache": ("fingerprint", "a byte longer"),
    "one_fingerprint": ("fingerprint", "the same as of train"),
    "forgets_files": ("files", "not in files(): image0.npy"),
    "leaks": ("disjoint", "val image0 is also train image0"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with files for every dataset of the module."""
    random = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 3)):
        (tmp_path / "all" / split).mkdir(parents=True)
        for index in range(count):
            stored = random.integers(0, 256, (12, 16, 4), np.uint8)
            stored[..., 3] = np.array([0, 1, 2, 255])[stored[..., 3] // 64]
            np.save(tmp_path / "all" / split / f"image{index}.npy", stored)
    for plugin in BROKEN:
        if plugin.module is None:
            (tmp_path / plugin.name).symlink_to(tmp_path / "all")
    return tmp_path


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_its_rule(name: str, root: Path) -> None:
    rule, said = FAULTS[name]
    result = check_rule(BROKEN.get(name), rule, data_root=root)
    assert not result.ok
    assert said in str(result)
    assert result.fed
    assert result.got
    assert result.expected


def test_every_rule_has_a_dataset_that_fails_it() -> None:
    assert {rule for rule, _ in FAULTS.values()} == set(rules("dataset"))


def test_every_rule_says_what_it_requires() -> None:
    assert all((rule.__doc__ or "").strip() for rule in rules("dataset").values())


@pytest.mark.parametrize("name", ["sound", "declared"])
def test_sound_datasets_pass(name: str, root: Path) -> None:
    failed = [str(result) for result in check(BROKEN.get(name), data_root=root) if not result.ok]
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", ["unlicensed", "shared_buffer", "locked", "second_load", "stale_cache", "leaks"])
def test_a_fault_fails_no_rule_but_its_own(name: str, root: Path) -> None:
    failed = {result.rule for result in check(BROKEN.get(name), data_root=root) if not result.ok}
    # Threads are how a cache is built: what goes wrong with threads can go wrong with it.
    assert failed - {"threads", "counts"} == {FAULTS[name][0]} - {"threads", "counts"}
    assert FAULTS[name][0] in failed


def test_data_that_is_not_there_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no split train"):
        check(BROKEN.get("sound"), data_root=tmp_path)


def test_files_opened_by_threads_and_by_pillow_are_seen(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    file, picture = tmp_path / "a.txt", tmp_path / "b.png"
    file.write_text("x")
    Image.new("L", (2, 2)).save(picture)
    with opened_files() as opened, ThreadPoolExecutor(1) as pool:
        pool.submit(file.read_text).result()
        Image.open(picture).close()
    file.read_text()
    assert {file, picture} <= opened


def test_a_believed_change_leaves_the_file_and_others_alone(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("x")
    other.write_text("x")
    before = file.stat()
    with believed_changed(file):
        assert file.stat().st_size == 2
        assert file.stat().st_mtime_ns == before.st_mtime_ns + 10**9
        assert other.stat().st_size == 1
    assert file.stat() == before
