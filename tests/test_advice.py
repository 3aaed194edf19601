from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lossbench import leaderboard
from lossbench.advice import FIRST, MIXED, OPEN, PARTLY, WORSE, Advice, advise, shape_of
from lossbench.cli import main as entry
from lossbench.errors import ConfigError
from lossbench.store import Store
from lossbench.suite import load_suite
from lossbench.views import advice as view
from tests.factories import make_record, put

#: Truth pixels of eight classes at an imbalance of about 10, 100 and 1000.
MILD = (9000, 7000, 5000, 4000, 3000, 2000, 1200, 900)
STRONG = (40_000, 25_000, 15_000, 10_000, 5_000, 1_200, 600, 400)
EXTREME = (80_000, 25_000, 9_000, 3_000, 900, 300, 150, 80)


def fill(store: Store, qualities: dict[str, dict[str, float]], seeds: int = 5) -> None:
    """Runs of losses by dataset; the quality of a seed moves all losses alike, so that pairs are close."""
    shapes = {"mild": MILD, "strong": STRONG, "extreme": EXTREME}
    for (dataset, losses), seed in itertools.product(qualities.items(), range(seeds)):
        for loss, quality in losses.items():
            put(store, dataset=dataset, loss=loss, seed=seed, quality=quality + 0.002 * seed, shares=shapes[dataset])


def told(store: Store, counts: tuple[int, ...], reference: str = "ce") -> Advice:
    return advise(shape_of(counts), leaderboard.build(store.runs()[0], reference=reference), reference)


def groups(advice: Advice) -> dict[str, str]:
    return {each.label: each.group for each in advice.candidates}


def test_shape_by_hand() -> None:
    shape = shape_of([80, 15, 5, 0])
    assert (shape.classes, shape.ratio) == (3, 16)
    assert shape.tail == pytest.approx(0.05)
    shares = np.array([0.8, 0.15, 0.05])
    assert shape.effective == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert shape_of([7, 7, 7]).effective == pytest.approx(3)


@given(
    st.lists(st.integers(1, 10**9), min_size=2, max_size=30), st.lists(st.integers(1, 10**9), min_size=2, max_size=30)
)
def test_distance_is_a_distance(a: list[int], b: list[int]) -> None:
    one, other = shape_of(a), shape_of(b)
    assert one.distance(one) == 0
    assert one.distance(other) == pytest.approx(other.distance(one))
    assert one.distance(other) >= 0
    tenfold = shape_of([10 * n for n in a])
    assert one.distance(tenfold) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("counts", [[], [5], [5, 0], [-1, 5], [float("nan"), 3], [1e30, 5, 3]])
def test_counts_that_make_no_sense(counts: list) -> None:
    with pytest.raises(ConfigError):
        shape_of(counts)


def test_a_loss_that_helps_only_at_strong_imbalance(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {
        "mild": {"ce": 0.8, "tail_loss": 0.78, "noise": 0.8},
        "extreme": {"ce": 0.7, "tail_loss": 0.76, "noise": 0.7003},
    })  # fmt: skip
    near_extreme = told(store, tuple(9 * n for n in EXTREME))
    assert [title for title, _, _ in near_extreme.near] == ["extreme / fcn_timm"]
    assert groups(near_extreme) == {"tail_loss": FIRST, "noise": OPEN}
    near_mild = told(store, MILD)
    assert groups(near_mild) == {"tail_loss": WORSE, "noise": OPEN}


def test_better_here_and_worse_there_is_mixed(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"strong": {"ce": 0.7, "odd": 0.76}})
    for seed in range(5):
        for loss, quality in (("ce", 0.7), ("odd", 0.64)):
            put(store, dataset="strong2", loss=loss, seed=seed, quality=quality + 0.002 * seed, shares=STRONG)
    assert groups(told(store, STRONG)) == {"odd": MIXED}


def test_worse_somewhere_and_better_nowhere_is_worse(tmp_path) -> None:
    """However open it is elsewhere: it was "not separated", and `--write-suite` might have listed it."""
    store = Store(tmp_path)
    fill(store, {"strong": {"ce": 0.7, "bad": 0.64, "open": 0.7001}})
    for seed, (loss, quality) in itertools.product(range(2), (("ce", 0.7), ("bad", 0.702), ("open", 0.7))):
        put(store, dataset="strong2", loss=loss, seed=seed, quality=quality + 0.002 * seed, shares=STRONG)
    advice = told(store, STRONG)
    assert groups(advice) == {"bad": WORSE, "open": OPEN}
    (bad,) = advice.of(WORSE)
    assert [each.verdict for each in bad.evidence] == ["worse", "open"]
    losses = yaml.safe_load(view.suite(advice, {"name": "strong"}, "strong"))["losses"]
    assert [loss if isinstance(loss, str) else loss["name"] for loss in losses] == ["ce", "open"]


def test_better_somewhere_and_below_elsewhere_is_partly_better(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"strong": {"ce": 0.7, "odd": 0.76}})
    for seed in range(2):
        for loss, quality in (("ce", 0.7), ("odd", 0.71 - 0.03 * seed)):
            put(store, dataset="strong2", loss=loss, seed=seed, quality=quality, shares=STRONG)
    assert groups(told(store, STRONG)) == {"odd": PARTLY}


def test_one_odd_record_does_not_stop_all_advice(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"strong": {"ce": 0.7, "good": 0.76}})
    for loss, seed in itertools.product(("ce", "good"), range(2)):
        cell, record, per_image = make_record(dataset="odd", loss=loss, seed=seed)
        record.train_pixels = [1000, *[0] * (len(record.train_pixels) - 1)]
        store.write(cell, record, per_image, list("abcd"))
    advice = told(store, STRONG)
    assert groups(advice) == {"good": FIRST}
    assert "Left out, for their training pixels: odd" in advice.cautions[0]
    assert "fewer than two classes have pixels" in advice.cautions[0]


def test_nothing_separates(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"strong": {"ce": 0.7, "a": 0.7002, "b": 0.7}}, seeds=2)
    advice = told(store, STRONG)
    assert set(groups(advice).values()) == {OPEN}
    assert advice.of(FIRST) == []
    assert any("Fewer than 3 seeds" in line for line in advice.cautions)


def test_what_lies_outside_is_said(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"mild": {"ce": 0.8, "a": 0.85}})
    advice = told(store, (10**7, 10**4, 10))
    said = " ".join(advice.cautions)
    assert "No measured dataset is near" in said
    assert "imbalance, 1,000,000:1, lies outside" in said
    assert "Only one backbone" in said


def test_without_the_reference_there_is_no_advice(tmp_path) -> None:
    store = Store(tmp_path)
    fill(store, {"mild": {"focal": 0.8}})
    with pytest.raises(ConfigError, match="tells of a difference to 'ce'"):
        told(store, MILD)


# --- the verb ---


def test_without_records_those_that_come_with_it_speak(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert entry.run(["advise", "--counts", "900000,50000,3000"]) == 0
    said = capsys.readouterr()
    assert said.err == "no records in results: the evidence is the records that come with lossbench\n"
    assert "Worth trying first" in said.out
    assert "over blocks" not in said.out, "there is one"
    assert entry.run(["advise", "--counts", "900000,50000,3000", "--results", "elsewhere"]) == 2
    assert "no records in elsewhere" in capsys.readouterr().err


def test_the_verb(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "r"))
    fill(Store(tmp_path / "r"), {"strong": {"ce": 0.7, "focal": 0.76}, "mild": {"ce": 0.7, "focal": 0.7}})
    assert entry.run(["advise", "--dataset", "strong"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert max(map(len, out.splitlines())) <= 80
    assert "Worth trying first" in out
    assert entry.run(["advise", "--counts", ",".join(map(str, STRONG)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["losses"][0]["group"] == FIRST
    (tmp_path / "counts.json").write_text(json.dumps({"road": 900, "car": 30}))
    assert entry.run(["advise", "--counts", str(tmp_path / "counts.json")]) == 0
    assert "come with lossbench" not in capsys.readouterr().err
    for wrong in (["--counts", "many"], [], ["--dataset", "strong", "--counts", "1,2"], ["--dataset", "nothing"]):
        assert entry.run(["advise", *wrong]) == 2, wrong


def test_a_folder_of_a_suite_and_the_suite_that_settles_it(tmp_path, monkeypatch, capsys) -> None:
    from PIL import Image

    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "r"))
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    fill(Store(tmp_path / "r"), {"strong": {"ce": 0.7, "focal": 0.76}})
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "roads" / kind / split).mkdir(parents=True)
        mask = np.zeros((20, 20), np.uint8)
        mask[0, :3] = 1
        Image.fromarray(mask).save(tmp_path / "roads" / "masks" / split / "a.png")
        Image.new("RGB", (20, 20)).save(tmp_path / "roads" / "images" / split / "a.png")
    (tmp_path / "mine.yaml").write_text(
        f"datasets: [{{name: folder, path: {tmp_path / 'roads'}, title: mine, classes: [road, car]}}]\n"
        "backbones: [{name: fcn_timm, weights: none}]\nlosses: [ce]\n"
    )
    target = tmp_path / "settle.yaml"
    arguments = ["advise", "--suite", str(tmp_path / "mine.yaml"), "--write-suite", str(target)]
    assert entry.run(arguments) == 0
    assert "2 classes, imbalance 132:1" in " ".join(capsys.readouterr().out.split())
    written = yaml.safe_load(target.read_text())
    assert written["losses"][0] == "ce"
    assert written["losses"][1]["name"] == "focal"
    assert [each.name for each in load_suite(target).losses] == ["ce", "focal"]
    assert entry.run(arguments) == 2  # never over a file


def test_counts_are_numbers_before_they_are_a_file(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "r"))
    fill(Store(tmp_path / "r"), {"strong": {"ce": 0.7, "focal": 0.76}})
    long = ",".join(str(1_000_000 - 1000 * place) for place in range(200))
    assert len(long) > 255  # more than a file name may have
    assert entry.run(["advise", "--counts", long]) == 0
    assert "200 classes" in capsys.readouterr().out
    assert entry.run(["advise", "--counts", "x" * 5000]) == 2
    assert len(capsys.readouterr().err) < 300
    for wrong in ("1e30,5,3", "inf,5", "nan,5"):
        assert entry.run(["advise", "--counts", wrong]) == 2


def test_a_reference_with_parameters_goes_into_the_suite_as_such(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "r"))
    store = Store(tmp_path / "r")
    for seed in range(5):
        for loss, params, quality in (("cdfl", {"omega": 0.01}, 0.7), ("cdfl", {"omega": 0.1}, 0.76)):
            put(store, dataset="streets", loss=loss, params=params, seed=seed, quality=quality + 0.002 * seed,
                shares=STRONG, dataset_params={"imbalance": 100.0, "balance": 3.0})  # fmt: skip
    target = tmp_path / "settle.yaml"
    arguments = ["advise", "--dataset", "streets", "--versus", "cdfl(omega=0.01)", "--write-suite", str(target)]
    assert entry.run(arguments) == 0
    assert yaml.safe_load(target.read_text())["losses"][0] == {"name": "cdfl", "omega": 0.01}


def test_parameters_of_a_dataset_are_told_apart_by_their_whole_name(tmp_path, monkeypatch) -> None:
    from lossbench.cli.advise import _asked

    store = Store(tmp_path)
    for loss in ("ce", "focal"):
        put(store, dataset="set", loss=loss, dataset_params={"crop_size": 3, "size": 5})
    blocks = leaderboard.build(store.runs()[0])
    blocks[0].dataset = "set(crop_size=3)"  # as a suite that leaves the other at its default has it
    assert _asked("set", None, None, blocks, None, None)[1] == {"name": "set", "crop_size": 3}
