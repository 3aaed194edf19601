"""leaderboard.py: what may share a table, who is compared with whom, and what is said about it."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from lossbench import leaderboard, metrics, statistics
from lossbench.errors import ConfigError, UnknownNameError
from lossbench.finescores import FINE
from lossbench.leaderboard import build, column_keys, frame, run_rows, sort_key
from lossbench.selection import select
from lossbench.standings import COLUMNS
from lossbench.store import Store, StoredRecord
from tests.factories import SHARES, make_record, put, quickstart


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def board(store, **options):
    return build(store.read_all()[0], **options)


def row_of(block, label):
    (row,) = [row for row in block.rows if row.label == label]
    return row


# --- rows ---


def test_a_row_is_the_mean_over_its_seeds(store):
    quickstart(store)
    (block,) = board(store)
    row = row_of(block, "focal")
    runs = [s.record for s in store.read_all()[0] if s.record.labels["loss"] == "focal"]
    values = [100 * metrics.summary(r.confusion, r.train_pixels)["miou"] for r in runs]
    assert row.seeds == (0, 1, 2)
    assert row.describe("miou").mean == pytest.approx(np.mean(values))
    assert row.describe("miou").sd == pytest.approx(np.std(values, ddof=1))
    assert row.value("ms_per_step") == 105.0
    assert row.class_iou("train").mean == pytest.approx(np.mean([100 * metrics.iou(r.confusion)[7] for r in runs]))


def test_every_column_of_every_row_has_a_value(store):
    quickstart(store)
    (block,) = board(store)
    for row in block.rows:
        for key in COLUMNS:
            undefined = (key == "delta" and row.is_reference) or key in FINE  # these records have no counts for FINE
            assert math.isnan(row.value(key)) == undefined, (row.label, key)


def test_rows_are_best_first_and_parameters_are_in_labels(store):
    quickstart(store)
    (block,) = board(store)
    assert [row.label for row in block.rows] == [
        "lovasz_softmax",
        "cdfl(omega=0.01)",
        "balanced_ce",
        "ce",
        "focal",
        "df",
    ]
    assert block.title == "streets / fcn_timm"


@pytest.mark.parametrize("key", [*COLUMNS, "loss", "train"])
def test_sorting_by_any_column(store, key):
    quickstart(store)
    (block,) = board(store, sort=key)
    if key == "loss":
        assert [row.label for row in block.rows] == sorted(row.label for row in block.rows)
        return
    values = [row.class_iou(key).mean if key == "train" else row.value(key) for row in block.rows]
    values = [0.0 if math.isnan(v) else v for v in values]  # the reference's difference to itself
    higher = key == "train" or COLUMNS[key].higher
    assert values == sorted(values, reverse=bool(higher))


@pytest.mark.parametrize(
    ("given", "key"), [("mIoU", "miou"), ("MIOU", "miou"), ("mPrec", "mprecision"), ("ms", "ms_per_step")]
)
def test_a_title_of_a_column_is_as_good_as_its_key(store, given, key):
    quickstart(store, seeds=(0,))
    assert board(store, sort=given)[0].sort == key


def test_an_unknown_column_has_a_suggestion(store):
    quickstart(store, seeds=(0,))
    with pytest.raises(UnknownNameError, match="cannot sort by 'mioo'") as caught:
        board(store, sort="mioo")
    assert caught.value.hint == "did you mean 'miou'?"
    with pytest.raises(UnknownNameError) as caught:
        board(store, sort="zzz")
    assert "a class name" in (caught.value.hint or "")


# --- the reference ---


def test_differences_are_paired_over_common_seeds(store):
    for seed in (0, 1, 2):
        put(store, loss="ce", seed=seed, quality=0.7 + 0.05 * seed, ms_per_step=100 * (1 + seed))
    for seed in (1, 2, 5):
        put(store, loss="focal", seed=seed, quality=0.75 + 0.05 * seed, ms_per_step=120 * (1 + seed))
    (block,) = board(store)
    focal, ce = row_of(block, "focal"), row_of(block, "ce")
    assert focal.delta == statistics.paired_difference(focal.by_seed("miou"), ce.by_seed("miou"))
    assert focal.delta.seeds == (1, 2)
    assert focal.time_ratio == pytest.approx(1.2)
    assert ce.delta is None
    assert ce.is_reference
    assert ce.time_ratio == 1.0


def test_the_reference_counts_though_it_is_not_shown(store):
    quickstart(store)
    (block,) = board(store, loss="focal")
    assert [row.label for row in block.rows] == ["focal"]
    assert block.rows[0].delta is not None


def test_a_reference_may_be_named_as_losses_are(store):
    quickstart(store)
    (block,) = board(store, reference="focal()")
    assert block.reference == "focal"
    assert block.rows[0].delta is not None


def test_without_the_reference_differences_are_blank_and_it_is_said(store):
    quickstart(store)
    (block,) = board(store, reference="focall")
    assert all(row.delta is None and row.time_ratio is None for row in block.rows)
    assert not block.has_reference
    assert "No run of the reference 'focall' here: differences are blank. did you mean 'focal'?" in block.notes


def test_a_reference_may_be_chosen_by_label_when_its_name_is_ambiguous(store):
    for omega in (0.01, 0.1):
        put(store, loss="cdfl", params={"omega": omega})
    (block,) = board(store, reference="cdfl")
    assert not block.has_reference
    assert "choose one with --reference 'cdfl(omega=0.01)' or 'cdfl(omega=0.1)'" in block.notes[0]
    (block,) = board(store, reference="cdfl(omega=0.1)")
    assert row_of(block, "cdfl(omega=0.1)").is_reference


def test_times_of_different_machines_are_not_divided(store):
    put(store, loss="ce", ms_per_step=100)
    gpu = {"cpu": "x", "threads": 1, "device": "cuda:0", "gpu": {"name": "G"}}
    put(store, loss="focal", ms_per_step=10, provenance={"hardware": gpu})
    (block,) = board(store)
    focal = row_of(block, "focal")
    assert focal.time_ratio is None
    assert focal.delta is not None
    assert block.best("ms_per_step") is None
    assert any("different machines" in note for note in block.notes)


# --- blocks: what may be compared ---


def test_datasets_and_backbones_have_blocks_of_their_own(store):
    for dataset in ("streets", "camvid"):
        for backbone in ("fcn_timm", "unet"):
            put(store, dataset=dataset, backbone=backbone)
    assert [block.title for block in board(store)] == [
        "camvid / fcn_timm",
        "camvid / unet",
        "streets / fcn_timm",
        "streets / unet",
    ]


def test_a_loss_with_its_own_learning_rate_is_set_apart_and_the_difference_is_named(store):
    quickstart(store)
    for seed in range(3):
        put(store, loss="lovasz_softmax", seed=seed, quality=0.9, protocol={"lr": 0.001})
    main, apart = board(store)
    assert main.title == "streets / fcn_timm"
    assert len(main.rows) == 6
    assert apart.title == "streets / fcn_timm (lr 0.001 instead of 0.01)"
    assert [row.label for row in apart.rows] == ["lovasz_softmax"]
    assert apart.rows[0].delta is None
    assert row_of(main, "lovasz_softmax").value("miou") < apart.rows[0].value("miou")


def test_the_main_protocol_is_that_of_most_losses_not_of_most_seeds(store):
    for loss in ("ce", "focal"):
        put(store, loss=loss, protocol={"iterations": 400})
    for seed in range(6):
        put(store, loss="ce", seed=seed, protocol={"iterations": 50})
    main, apart = board(store)
    assert main.protocol["iterations"] == 400
    assert apart.variant == "iterations 50 instead of 400"


def test_a_protocol_key_that_a_record_predates_has_its_default(store):
    _, record, _ = make_record(loss="focal")
    del record.cell["protocol"]["jitter"]
    old = StoredRecord(record, store.root / "old.json")
    put(store)
    assert len(build([*store.read_all()[0], old])) == 1


def test_other_pixels_or_classes_never_share_a_table(store):
    quickstart(store)
    put(store, loss="focal", params={"gamma": 1.0}, shares=(*SHARES[:-1], 81))
    put(store, loss="focal", params={"gamma": 3.0}, class_names=tuple("abcdefgh"))
    blocks = board(store)
    assert [block.variant for block in blocks] == [
        "",
        "other classes: 8 (a, b, c, ...)",
        f"other data: {4 * (sum(SHARES) + 1):,} scored pixels instead of {4 * sum(SHARES):,}",
    ]


def test_another_rule_for_absent_classes_is_set_apart(store):
    put(store)
    _, record, _ = make_record(loss="focal")
    record.absent_class_rule = "zero"
    blocks = build([*store.read_all()[0], StoredRecord(record, store.root / "x.json")])
    assert {block.absent_class_rule for block in blocks} == {"excluded", "zero"}


def test_equal_labels_of_different_identity_are_told_apart(store):
    """Another default of gamma: the suite spelled out nothing either time, so both records say `focal`."""
    put(store, loss="focal", params={"gamma": 2.0, "alpha": 1.0}, label="focal")
    put(store, loss="focal", params={"gamma": 5.0, "alpha": 1.0}, label="focal")
    (block,) = board(store)
    assert sorted(row.label for row in block.rows) == ["focal(gamma=2)", "focal(gamma=5)"]


def test_equal_labels_of_datasets_are_told_apart(store):
    records = []
    for imbalance in (10.0, 50.0):
        cell, record, _ = make_record(dataset_params={"imbalance": imbalance})
        record.labels["dataset"] = "streets"
        records.append(StoredRecord(record, store.record_path(cell)))
    assert [block.dataset for block in build(records)] == ["streets(imbalance=10)", "streets(imbalance=50)"]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"loss": "c*"}, {"ce", "cdfl(omega=0.01)"}),
        ({"loss": "cdfl"}, {"cdfl(omega=0.01)"}),
        ({"loss": "cdfl(omega=0.01)"}, {"cdfl(omega=0.01)"}),
        ({"loss": "*omega*"}, {"cdfl(omega=0.01)"}),
        ({"loss": "ce|cdfl(omega=0.01)|nothing"}, {"ce", "cdfl(omega=0.01)"}),
        ({"loss": "cdfl()"}, set()),
        ({"loss": "ce()|cdfl(omega=0.01)"}, {"ce", "cdfl(omega=0.01)"}),
        ({"loss": "FOCAL"}, set()),
        ({"backbone": "unet"}, set()),
        ({"dataset": "str*", "loss": "df"}, {"df"}),
    ],
)
def test_globs_match_names_and_labels(store, options, labels):
    quickstart(store, seeds=(0,))
    assert {row.label for block in board(store, **options) for row in block.rows} == labels
    records = store.read_all()[0]
    if labels:
        assert {s.record.labels["loss"] for s in select(records, **options)} == labels
    else:
        with pytest.raises(ConfigError, match="no record matches --"):
            select(records, **options)


def test_globs_that_match_apart_but_not_together(store):
    put(store, dataset="camvid", loss="ce")
    put(store, dataset="streets", loss="focal")
    with pytest.raises(ConfigError, match="matches all of"):
        select(store.read_all()[0], dataset="camvid", loss="focal")


# --- marks ---


def test_diverged_runs_count_as_what_they_scored_and_are_flagged(store):
    put(store, loss="df", seed=0, quality=0.7)
    put(store, loss="df", seed=1, quality=0.05, status="diverged")
    (block,) = board(store)
    (row,) = block.rows
    assert (row.n, row.diverged) == (2, 1)
    assert row.value("miou") == pytest.approx(np.mean(list(row.by_seed("miou").values())))
    assert "Diverged runs (!) count as what they scored: df (1 of 2)." in block.notes


def test_a_run_that_scored_nothing_leaves_no_mean_to_be_proud_of(store):
    put(store, loss="df", seed=0, quality=0.7)
    cell, record, _ = make_record(loss="df", seed=1, status="diverged")
    record.confusion[:] = 0
    (block,) = build([*store.read_all()[0], StoredRecord(record, store.record_path(cell))])
    (row,) = block.rows
    assert (row.n, row.diverged) == (2, 1)
    assert math.isnan(row.value("miou"))


def test_stale_runs_are_flagged_with_reasons_or_left_out(store):
    quickstart(store)

    def stale(record):
        return ["loss 'df' changed since (a -> b)"] if record.cell["loss"]["name"] == "df" else []

    (block,) = board(store, stale=stale)
    assert row_of(block, "df").stale == 3
    assert row_of(block, "ce").stale == 0
    assert any("loss 'df' changed since (a -> b) [3 runs]" in note for note in block.notes)
    (block,) = board(store, stale=stale, include_stale=False)
    assert "df" not in [row.label for row in block.rows]


def test_the_best_is_the_best_as_printed(store):
    quickstart(store)
    (block,) = board(store)
    assert block.best("miou") == round(max(row.value("miou") for row in block.rows), 2)
    assert block.best("ms_per_step") == min(row.value("ms_per_step") for row in block.rows)
    assert block.best("extra_forwards") is None  # all equal
    assert block.best("time_ratio") is None  # says nothing that ms per step does not


def test_one_row_wins_nothing(store):
    put(store)
    (block,) = board(store)
    assert all(block.best(key) is None for key in COLUMNS)


def test_image_averages_need_the_sidecar(store):
    path = put(store)
    (block,) = board(store)
    assert not math.isnan(block.rows[0].value("image_miou"))
    path.with_suffix(".npz").unlink()
    (block,) = board(store)
    assert math.isnan(block.rows[0].value("image_miou"))
    assert not math.isnan(block.rows[0].value("miou"))


def test_nothing_in_nothing_out():
    assert build([]) == []
    assert run_rows([]) == []


# --- one row per run ---


def test_the_frame_is_tidy(store):
    quickstart(store)
    data = frame(store.read_all()[0])
    assert len(data) == 18
    assert data["id"].is_unique
    (block,) = board(store)
    means = data.groupby("loss")["miou"].mean()
    for row in block.rows:
        assert means[row.label] == pytest.approx(row.value("miou"))
    assert data.loc[data["loss_name"] == "cdfl", "loss.omega"].unique().tolist() == [0.01]
    assert data["protocol.lr"].unique().tolist() == [0.01]
    assert {"iou:road", "image_miou", "ms_per_step", "seed", "status"} <= set(data.columns)


def test_building_needs_neither_torch_nor_pandas(store):
    quickstart(store, seeds=(0, 1))
    code = (
        "import sys; from pathlib import Path; from lossbench.store import Store\n"
        "from lossbench.leaderboard import build; from lossbench.views import data\n"
        "text = data.render_json(build(Store(Path(sys.argv[1])).read_all()[0]))\n"
        "assert 'lovasz' in text and not {'torch', 'pandas', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(store.root)], check=True)


def test_the_module_says_what_it_sorts_by():
    assert set(COLUMNS) >= {"miou", "delta", "macc", "mprecision", "mrecall", "ms_per_step", "time_ratio"}
    assert leaderboard.COLUMNS is COLUMNS


def test_another_split_is_another_block(store):
    """Scores of the test split never stand beside those of the validation split."""
    for seed in range(2):
        for loss in ("ce", "focal"):
            put(store, loss=loss, seed=seed)
        put(store, loss="focal", seed=seed, quality=0.9, protocol={"eval_split": "test"})
    main, other = board(store)
    assert other.variant == "eval_split test instead of val"
    assert {row.label: row.n for row in main.rows} == {"ce": 2, "focal": 2}
    assert [(row.label, row.n, row.delta) for row in other.rows] == [("focal", 2, None)]


@pytest.mark.parametrize("name", ["worst_miou", "worst5_miou", "Worst5", "boundary_iou"])
def test_other_names_of_columns(name):
    expected = "boundary_miou" if name == "boundary_iou" else "image_miou_worst"
    assert column_keys(f"miou,{name}") == ["miou", expected]
    assert sort_key(name, [make_record()[1]]) == expected
