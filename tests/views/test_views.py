"""Views: every format says the same numbers, fits where it must, and survives any name."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console

from lossbench.leaderboard import build
from lossbench.runs import Run
from lossbench.store import Store, StoredRecord
from lossbench.views import data, latex, markdown, record, terminal
from lossbench.views.grid import footer
from tests.factories import CLASSES, make_record, put, quickstart

NASTY = "50% of_all & {more} [x] <b> *y* |z| \\w ~ ^ # $1 é 道"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def blocks_of(store, **options):
    return build(store.read_all()[0], **options)


def terminal_text(blocks, width=80, encoding="utf-8", force_terminal=False, **options):
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, write_through=True)
    console = Console(file=file, width=width, force_terminal=force_terminal, color_system="truecolor")
    terminal.render(blocks, console, **options)
    return buffer.getvalue().decode(encoding)


def strip(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def nasty_blocks(store):
    names = (NASTY, *CLASSES[1:])
    records = []
    for loss in ("ce", "focal"):
        for seed in (0, 1):
            cell, made, _ = make_record(loss=loss, seed=seed, class_names=names, label=f"{loss} {NASTY}")
            made.labels["dataset"] = NASTY
            records.append(StoredRecord(made, store.record_path(cell)))
    return build(records)


# --- terminal ---


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 250])
@pytest.mark.parametrize("force_terminal", [False, True])
def test_it_fits_the_width(store, width, force_terminal):
    quickstart(store)
    put(store, loss="focal", params={"gamma": 5.0, "alpha": 0.25, "schedule": "linear"}, quality=0.3)
    put(store, loss="ce", seed=0, backbone="unet")
    text = strip(terminal_text(blocks_of(store), width, force_terminal=force_terminal, per_class=True))
    assert max(len(line) for line in text.splitlines()) <= width


def heading_of(text):
    return next(line for line in text.splitlines() if line.startswith("loss")).split()


def test_at_80_columns_the_base_columns_are_all_there(store):
    quickstart(store)
    text = terminal_text(blocks_of(store), 80)
    assert heading_of(text) == ["loss", "mIoU", "diff", "ce", "mAcc", "mPrec", "tail", "ms", "x", "ce"]
    wide = heading_of(terminal_text(blocks_of(store), 140))
    assert {"n", "head", "mid", "tail", "mF1", "pixAcc"} <= set(wide)
    assert all(name in text for name in ("lovasz_softmax", "cdfl", "(omega=0.01)", "balanced_ce"))


def test_narrow_terminals_lose_the_last_columns_first(store):
    quickstart(store)
    assert heading_of(terminal_text(blocks_of(store), 50))[:4] == ["loss", "mIoU", "diff", "ce"]
    assert heading_of(terminal_text(blocks_of(store), 34))[:2] == ["loss", "mIoU"]


def test_seeds_are_counted_in_the_table_when_rows_differ(store):
    quickstart(store)
    put(store, loss="focal", seed=7)
    assert heading_of(terminal_text(blocks_of(store), 80))[1] == "n"


def test_piped_it_is_plain_ascii_without_trailing_blanks(store):
    quickstart(store)
    text = terminal_text(blocks_of(store), per_class=True)
    assert text.isascii()
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_on_a_terminal_it_has_color_and_symbols(store):
    quickstart(store)
    text = terminal_text(blocks_of(store), force_terminal=True)
    assert "\x1b[1;32m" in text
    assert "±" in text
    assert "Δ ce" in strip(text)


def test_an_ascii_encoding_is_no_crash(store):
    for force_terminal in (False, True):
        text = terminal_text(nasty_blocks(store), encoding="ascii", force_terminal=force_terminal, per_class=True)
        assert "50% of_all" in strip(text)


def test_the_printed_numbers_are_those_of_the_rows(store):
    quickstart(store)
    (block,) = blocks_of(store)
    lines = terminal_text([block], 100).splitlines()
    for row in block.rows:
        (line,) = [x for x in lines if x.startswith(f"{row.label} ")]
        spread = row.describe("miou")
        assert f"{spread.mean:.2f} +-{spread.sd:.2f}" in line
        for key in ("macc", "mprecision", "mrecall"):
            assert f"{row.value(key):.2f}" in line
        expected = "ref" if row.is_reference else f"{row.delta.mean:+.2f} +-"
        assert expected in line


def test_the_best_is_starred_and_only_the_best(store):
    quickstart(store)
    lines = terminal_text(blocks_of(store), 80).splitlines()
    assert next(x for x in lines if x.startswith("lovasz")).count("*") == 5
    assert not any("*" in x for x in lines if x.startswith(("balanced_ce", "focal", "df", "cdfl")))


@pytest.mark.parametrize(
    ("seeds", "words"),
    [((0,), "One|one seed"), ((0, 1), "Fewer than 3 seeds"), ((0, 1, 2), r"over 3 seeds \(0, 1, 2\)")],
)
def test_the_footer_says_how_many_seeds(store, seeds, words):
    quickstart(store, seeds)
    text = terminal_text(blocks_of(store), 200)
    assert re.search(words, text)
    assert "val split; 400 iterations, batch 8, crop 128x256, sgd lr 0.01 poly" in text
    assert "excluded from means" in text
    assert ("95 % t interval" in text) == (len(seeds) > 1)
    assert ("Fewer than 3" in text) == (len(seeds) == 2)


def test_the_footer_speaks_of_no_column_that_is_not_shown(store):
    quickstart(store)
    (block,) = blocks_of(store)
    for keys, ratio, equal in ((None, True, True), (["delta", "macc"], False, True), (["time_ratio"], True, False)):
        said = " ".join(footer(block, keys))
        assert ("time per step" in said, "mAcc equals mRec" in said) == (ratio, equal), keys


def test_per_class_lists_every_class_commonest_first(store):
    quickstart(store)
    text = terminal_text(blocks_of(store), 80, per_class=True)
    # the six losses do not fit side by side: the table is continued
    found = re.findall(rf"^({'|'.join(CLASSES)}) ", text, flags=re.M)
    assert found[: len(CLASSES)] == list(CLASSES)
    assert len(found) % len(CLASSES) == 0
    wide = terminal_text(blocks_of(store), 140, per_class=True)
    assert len(re.findall(rf"^({'|'.join(CLASSES)}) ", wide, flags=re.M)) == len(CLASSES)


def test_marks_for_stale_and_diverged(store):
    quickstart(store)
    put(store, loss="df", seed=9, status="diverged")
    text = terminal_text(blocks_of(store, stale=lambda r: ["because"] * (r.cell["loss"]["name"] in ("ce", "df"))), 120)
    assert re.search(r"^df !~ ", text, flags=re.M)
    assert re.search(r"^ce ~ ", text, flags=re.M)
    assert "df (1 of 4)" in text
    assert "because [7 runs]" in text


def test_runs_one_line_each(store):
    quickstart(store)
    put(store, dataset="camvid")
    runs = [Run(stored) for stored in store.read_all()[0]]
    buffer = io.StringIO()
    terminal.render_runs(runs, Console(file=buffer, width=80))
    for run in runs:
        assert run.record.id[:10] in buffer.getvalue()
    assert max(map(len, buffer.getvalue().splitlines())) <= 80


# --- Markdown ---


def test_markdown_is_a_table_with_the_best_in_bold(store):
    quickstart(store)
    text = markdown.render(blocks_of(store), per_class=True)
    assert text.startswith("### streets / fcn_timm\n\n| loss | n | mIoU (% ± sd) | Δ ce (points ± CI) | mAcc (%) |")
    tables = [[x for x in part.splitlines() if x.startswith("|")] for part in text.split("\n\n")]
    for table in filter(None, tables):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert re.search(r"\| lovasz_softmax \| 3 \| \*\*\d\d\.\d\d\*\* ±", text)
    assert "ms/step" in text


def test_markdown_survives_any_name(store):
    text = markdown.render(nasty_blocks(store), per_class=True)
    for table in ([x for x in p.splitlines() if x.startswith("|")] for p in text.split("\n\n")):
        if table:
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "\\<b>" in text
    assert "\\*y\\*" in text


# --- LaTeX ---


def check_latex(text):
    """Balanced environments and braces, equal columns, nothing special left bare."""
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#]", body)
    assert not re.search(r"(?<!\\)_", re.sub(r"\\label\{.*\}", "", body))
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    for tabular in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text, flags=re.S):
        for line in tabular[1].splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(tabular[0]) - 1


def test_latex_is_well_formed(store):
    quickstart(store)
    for seed in (0, 1):
        put(store, loss="ce", seed=seed, protocol={"lr": 0.002})
    text = latex.render(blocks_of(store), per_class=True)
    check_latex(text)
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"lovasz\_softmax", r"\textbf{", r"$\pm$"):
        assert command in text
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(labels) == len(set(labels)) == 4
    assert all(re.fullmatch(r"tab:[a-z0-9-]+", label) for label in labels)


def test_latex_survives_any_name(store):
    text = latex.render(nasty_blocks(store), per_class=True)
    check_latex(text)
    assert r"50\% of\_all \& \{more\}" in text


def test_latex_of_runs(store):
    quickstart(store)
    check_latex(latex.render_runs([Run(stored) for stored in store.read_all()[0]]))


# --- CSV and JSON ---


def test_csv_has_a_line_per_row_and_reads_back(store):
    quickstart(store)
    put(store, dataset="camvid", class_names=tuple("abcdefgh"))
    blocks = blocks_of(store)
    lines = list(csv.DictReader(io.StringIO(data.render_csv(blocks, per_class=True))))
    assert len(lines) == 7
    for line, row in zip(lines, [row for block in blocks for row in block.rows], strict=True):
        assert line["loss"] == row.label
        assert float(line["miou"]) == pytest.approx(row.value("miou"), rel=1e-5)
        if row.delta:
            low, high = row.delta.interval
            assert (float(line["delta_low"]), float(line["delta_high"])) == pytest.approx((low, high), rel=1e-4)
        else:
            assert line["delta"] == ""
    assert lines[0]["iou:a"]
    assert lines[0]["iou:road"] == ""
    assert "nan" not in data.render_csv(blocks)


def test_json_holds_everything_and_no_nan(store):
    quickstart(store)
    put(store, dataset="camvid", loss="focal")
    blocks = blocks_of(store, stale=lambda r: ["why"])
    text = data.render_json(blocks, ["skipped x"])
    loaded = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert loaded["unit"] == "percent"
    assert loaded["warnings"] == ["skipped x"]
    camvid, streets = loaded["blocks"]
    assert camvid["reference"] is None
    assert camvid["rows"][0]["delta"] is None
    assert camvid["rows"][0]["scores"]["miou"]["sd"] is None
    assert streets["reference"] == "ce"
    lovasz = streets["rows"][0]
    assert lovasz["scores"]["miou"]["mean"] == pytest.approx(blocks[1].rows[0].value("miou"))
    assert set(lovasz["delta"]) == {"mean", "sd", "low", "high", "n"}
    assert len(lovasz["ids"]) == 3
    assert lovasz["stale_reasons"] == ["why"]
    assert set(lovasz["iou"]) == set(CLASSES)


# --- one record ---


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_record_is_shown_whole(width):
    _, made, per_image = make_record(loss="cdfl", params={"omega": 0.01}, notes=("remarkable",))
    made.diagnostics = {"mean_u": [0.001, None], "max_u": 0.02, "by_step": [*range(9), None], "by_class": [[1.0, 2.0]]}
    buffer = io.StringIO()
    console = Console(file=buffer, width=width)
    record.render(made, console, per_image=per_image, stale=["loss 'cdfl' changed since (a -> b)"])
    text = buffer.getvalue()
    words = (made.id, "remarkable", "changed since", "mean_u", "omega=0.01", "Example CPU", "quickstart", *CLASSES)
    for word in words:
        assert word in text, word
    assert "54.9" in text  # mIoU
    assert "first 0, largest 8, last null (10 points)" in " ".join(text.split())
    assert "2 numbers at 1 steps" in text
    assert text.isascii()
    if width >= 80:
        assert max(map(len, text.splitlines())) <= width


def test_a_record_shows_its_boundaries_calibration_and_worst_images():
    _, made, per_image = make_record()
    plain, whole = io.StringIO(), io.StringIO()
    record.render(made, Console(file=plain, width=120), per_image=per_image)
    assert "bIoU" not in plain.getvalue()
    assert "worst 5%" in plain.getvalue()
    bins = {"pixels": [0] * 14 + [40], "correct": [0] * 14 + [30], "confidence": [0] * 14 + [39 * 2**24]}
    made.extra_counts = {"boundary": [[3, 1, 0]] * 8, "calibration": bins | {"nll": 10 * 2**16}}
    record.render(made, Console(file=whole, width=120), per_image=per_image)
    lines = dict([*line.split()[:2], ""][:2] for line in whole.getvalue().splitlines() if line.strip())
    assert (lines["bIoU"], lines["ECE"], lines["NLL"]) == ("75.00", "22.50", "0.25")


def test_a_record_without_costs_provenance_or_sidecar_is_shown_too():
    _, made, _ = make_record()
    made.costs, made.provenance, made.curve = {}, {}, {}
    made.confusion[:] = 0
    buffer = io.StringIO()
    record.render(made, Console(file=buffer, width=80))
    assert "step" in buffer.getvalue()
