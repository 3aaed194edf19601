"""From a suite to its trials and final cells; what a hold-out is; wrong suites."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lossbench.data.holdout import held_out, open_parts, scored_part
from lossbench.datasets.streets import Streets
from lossbench.errors import ConfigError, DataError
from lossbench.protocol import Protocol
from lossbench.suite import load_suite
from lossbench.tuning.search import known_cells
from lossbench.tuning.tracks import AS_IS, TRIAL, TUNED, track_of

SUITE = """
datasets: [streets]
backbones: [{name: fcn_timm, weights: none}]
losses: [ce, {name: focal, gamma: 2.0}]
seeds: 2
protocol: {iterations: 10, lr: 0.001, min_lr: 0.0}
"""
TUNE = """
tune:
  trials: 3
  search: {lr: {low: 1e-4, high: 1e-2}}
  losses: {focal: {gamma: [0.5, 2.0, 5.0]}}
"""


def suite(tmp_path: Path, text: str = SUITE + TUNE):
    (tmp_path / "s.yaml").write_text(text)
    return load_suite(tmp_path / "s.yaml")


def tracks(cells) -> list[str]:
    return [track_of(cell.identity["protocol"]) for cell in cells]


def test_a_tune_changes_no_cell_of_the_suite(tmp_path: Path) -> None:
    assert [c.id for c in suite(tmp_path).cells()] == [c.id for c in suite(tmp_path, SUITE).cells()]


def test_trials_first_then_the_tuned_cells(tmp_path: Path) -> None:
    loaded = suite(tmp_path)
    before = loaded.known(lambda cell: None)
    assert tracks(before.cells) == [AS_IS] * 4 + [TRIAL] * 6
    assert (before.trials, before.finals) == (0, 4)
    scores = {cell.id: cell.protocol.lr for cell in before.cells}  # the highest rate is the best
    after = loaded.known(lambda cell: scores.get(cell.id))
    assert tracks(after.cells) == [AS_IS] * 4 + [TRIAL] * 6 + [TUNED] * 4
    best = max(cell.protocol.lr for cell in before.cells)
    finals = after.cells[-4:]
    assert {cell.protocol.lr for cell in finals} == {best}
    assert {cell.seed for cell in finals} == {0, 1}
    assert all(cell.protocol.holdout is None and cell.protocol.eval_split == "val" for cell in finals)
    assert len({cell.id for cell in after.cells}) == len(after.cells)


def test_every_loss_has_the_same_number_of_trials_and_rates(tmp_path: Path) -> None:
    trials = [c for c in suite(tmp_path).known(lambda c: None).cells if c.protocol.holdout is not None]
    rates = {name: [c.protocol.lr for c in trials if c.loss.name == name] for name in ("ce", "focal")}
    assert rates["ce"] == rates["focal"]
    assert len(rates["ce"]) == 3
    assert rates["ce"][0] == 0.001, "the loss as it is"


def test_another_search_is_another_tuned_cell(tmp_path: Path) -> None:
    finals = []
    for text in (SUITE + TUNE, SUITE + TUNE.replace("trials: 3", "trials: 4")):
        cells = suite(tmp_path, text).known(lambda cell: 0.5).cells
        finals.append({cell.id for cell in cells if cell.protocol.tuned is not None})
    assert not finals[0] & finals[1]


def test_known_cells_are_a_pure_function_of_the_records(tmp_path: Path) -> None:
    loaded = suite(tmp_path)
    half = {cell.id for cell in loaded.known(lambda c: None).cells[:7]}
    one, other = (known_cells(loaded.cells(), loaded.searches(), lambda c: 0.3 if c.id in half else None) for _ in "ab")
    assert [c.id for c in one.cells] == [c.id for c in other.cells]


# --- the hold-out ---


def test_the_images_held_out_hang_on_names_and_seed_alone() -> None:
    names = [f"image{i}" for i in range(50)]
    apart = held_out(names, 0.2, 0)
    assert len(apart) == 10
    shuffled = names[::-1]
    assert {shuffled[i] for i in held_out(shuffled, 0.2, 0)} == {names[i] for i in apart}
    assert held_out(names, 0.2, 1) != apart
    assert len(held_out(names, 0.001, 0)) == 1
    with pytest.raises(ConfigError, match="leaves none"):
        held_out(names[:1], 0.9, 0)


class Guarded(Streets):
    """Whoever touches the reported split is told."""

    def names(self, split):
        self._only_train(split)
        return super().names(split)

    def load(self, split, index):
        self._only_train(split)
        return super().load(split, index)

    def files(self, split):
        self._only_train(split)
        return super().files(split)

    def fingerprint(self, split):
        self._only_train(split)
        return super().fingerprint(split)

    def _only_train(self, split):
        if split != "train":
            raise DataError(f"a trial touched {split}")


def test_a_trial_never_touches_the_reported_split(tmp_path: Path) -> None:
    dataset = Guarded(height=48, width=64, train_images=10, val_images=3)
    protocol = Protocol(holdout=0.3, eval_split="train")
    parts = open_parts(dataset, protocol, cache_root=tmp_path, say=lambda text: None)
    train, apart = parts["train"], parts[scored_part(protocol)]
    assert (len(train), len(apart)) == (7, 3)
    assert not set(train.names) & set(apart.names)
    whole = np.zeros(dataset.num_classes, np.int64)
    for index in range(10):
        whole += np.bincount(dataset.load("train", index)[1].ravel(), minlength=256)[: dataset.num_classes]
    assert (train.class_counts + apart.class_counts == whole).all()
    assert train.fingerprint != apart.fingerprint
    with pytest.raises(DataError, match="touched val"):
        open_parts(dataset, Protocol(), cache_root=tmp_path, say=lambda text: None)


# --- wrong suites ---


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("trials: 1", "trials", ""),
        ("search: {lrr: {low: 1, high: 2}}", "'lrr' is no part of the protocol", "lr"),
        ("search: {iterations: [5, 6]}", "must be the same for all losses", "can be searched"),
        ("search: {lr: {low: 1e-2, high: 1e-4}}", "must be below high", ""),
        ("losses: {focl: {gamma: [1.0]}}", "'focl' is no loss of this suite", "focal"),
        ("losses: {focal: {gama: [1.0]}}", "gama", "gamma"),
        ("losses: {focal: {gamma: [high]}}", "gamma", ""),
        ("holdout: 1.5", "holdout", ""),
        ("seeds: [0]", "seed", ""),
        ("triels: 3", "triels", "trials"),
    ],
)
def test_a_wrong_tune_is_told_with_its_line(tmp_path: Path, line: str, message: str, hint: str) -> None:
    key = line.partition(":")[0]
    kept = [each for each in TUNE.strip().splitlines()[1:] if each.strip().partition(":")[0] != key]
    text = SUITE + "tune:\n" + "\n".join([*kept, f"  {line}"]) + "\n"
    with pytest.raises(ConfigError) as caught:
        suite(tmp_path, text)
    said = f"{caught.value.message} {caught.value.hint}"
    assert message in said, said
    assert hint in said, said
    assert "s.yaml:" in said


@pytest.mark.parametrize("key", ["holdout: 0.2", "tuned: {a: 1}"])
def test_what_tuning_sets_is_not_for_hands(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=r"is set by lossbench|a hold-out is a part of the training split"):
        suite(tmp_path, SUITE.replace("min_lr: 0.0", f"min_lr: 0.0, {key}"))
