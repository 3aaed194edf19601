"""Records and their per-image counts under the audit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossbench.recordaudit import check_record
from lossbench.store import Store, StoredRecord
from tests.factories import CLASSES, put


@pytest.fixture
def stored(tmp_path: Path) -> StoredRecord:
    put(Store(tmp_path))
    return Store(tmp_path).read_all()[0][0]


def failing(stored: StoredRecord) -> list[tuple[str, str, str, str, str]]:
    checks, _ = check_record(stored)
    return [(c.rule, c.subject, c.score, c.printed, c.expected) for c in checks if not c.holds]


def rewrite(stored: StoredRecord, change) -> None:
    """Change the counts of the sidecar in place, without the checks of the store."""
    path = stored.path.with_suffix(".npz")
    with np.load(path) as archive:
        counts, names = archive["counts"].copy(), archive["names"]
    counts, names = change(counts, names)
    np.savez(path, counts=counts, names=names)


def test_a_sound_record_passes_with_its_images(stored):
    checks, notes = check_record(stored)
    assert all(check.holds for check in checks)
    assert notes == []
    assert {check.rule for check in checks} >= {
        "accuracy", "iou", "f1_iou", "f1_pr", "class_mean", "scored", "sidecar", "image",
    }  # fmt: skip
    assert any(check.score == "mF1/img" for check in checks)
    assert checks[0].row == f"streets / fcn_timm / ce / seed 0 ({stored.record.id[:10]})"


def test_counts_that_do_not_sum_to_the_matrix_are_named(stored):
    def change(counts, names):
        counts[2, 3, 0] += 7  # TP of "tree" in the third image
        return counts, names

    rewrite(stored, change)
    total = int(stored.record.confusion[3, 3])
    assert failing(stored) == [("sidecar", CLASSES[3], "sum of TP", str(total + 7), str(total))]


def test_a_changed_matrix_is_found_by_its_images(stored):
    stored.record.confusion[0, 1] += 5
    assert [(rule, name) for rule, name, *_ in failing(stored)] == [("sidecar", "road"), ("sidecar", "building")]


def test_a_wrong_pixel_is_one_false_positive_and_one_false_negative(stored):
    def change(counts, names):
        counts[0, 0, 1] += 4  # moved from one image to another: the sums are right
        counts[1, 0, 1] -= 4
        return counts, names

    rewrite(stored, change)
    assert [(rule, name) for rule, name, *_ in failing(stored)] == [("image", "image_0"), ("image", "image_1")]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda counts, names: (-counts, names), "negative"),
        (lambda counts, names: (counts[:, :-1], names), "for 4 images and 8 classes"),
        (lambda counts, names: (counts, names[1:]), "for 3 images"),
        (lambda counts, names: (counts.astype(float), names), "float64"),
    ],
)
def test_counts_of_another_shape_or_kind(stored, change, hint):
    rewrite(stored, change)
    checks, _ = check_record(stored)
    (bad,) = [check for check in checks if not check.holds]
    assert bad.rule == "readable"
    assert hint in bad.hint


def test_a_damaged_sidecar_is_found_and_a_missing_one_noted(stored):
    sidecar = stored.path.with_suffix(".npz")
    sidecar.write_bytes(sidecar.read_bytes()[:100])
    assert [rule for rule, *_ in failing(stored)] == ["readable"]
    sidecar.unlink()
    checks, notes = check_record(stored)
    assert all(check.holds for check in checks)
    assert "no per-image counts" in notes[0]
    assert not any(check.score == "mF1/img" for check in checks)


@pytest.mark.parametrize("sidecar", [True, False])
def test_a_run_that_scored_nothing_must_have_diverged(stored, sidecar):
    stored.record.confusion[:] = 0
    if sidecar:
        rewrite(stored, lambda counts, names: (0 * counts, names))
    else:
        stored.path.with_suffix(".npz").unlink()
    assert failing(stored) == [("scored", "", "pixels", "0", "0")]
    diverged = replace(stored, record=replace(stored.record, status="diverged"))
    assert failing(diverged) == []


def test_absent_classes(stored):
    stored.path.with_suffix(".npz").unlink()
    stored.record.confusion[:] = 0
    stored.record.confusion[:2, :2] = 5
    assert failing(stored) == []
