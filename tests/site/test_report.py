"""The report without a browser: what is written and said, and that nothing in a record becomes markup or a path."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from lossbench.cli import main as entry
from lossbench.equivalence import detectable, sensitivity
from lossbench.errors import SetupError
from lossbench.leaderboard import build
from lossbench.registry import Plugin, Registry
from lossbench.site.docstring import typeset
from lossbench.site.formulas import formulas_of
from lossbench.site.lossinfo import rules
from lossbench.site.mathml import mathml
from lossbench.site.render import seeds
from lossbench.site.write import MARKER
from lossbench.store import Store
from tests.factories import put
from tests.site.conftest import LONG, fill_tuned, make


class Links(HTMLParser):
    """Targets of links and sources, ids, and the text of cells that hold numbers."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.scripts = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.scripts += tag == "script"
        if found.get("id"):
            self.ids.add(str(found["id"]))
        self.targets += [str(found[key]) for key in ("href", "src") if found.get(key) is not None]


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_kind_of_page_is_there(site: Path) -> None:
    assert (site / "index.html").is_file()
    assert len(list((site / "blocks").iterdir())) == 5
    assert len(list((site / "runs").iterdir())) == 18 + 8 + 1 + 1 + 1 + 1 + 4
    assert {file.stem for file in (site / "losses").iterdir()} >= {"ce", "cdfl", "mine"}
    assert len(list((site / "dials").iterdir())) == 1
    assert {file.name for file in (site / "assets").iterdir()} >= {"plotly.min.js", "site.css", "site.js"}


def test_every_link_stays_inside_and_leads_somewhere(site: Path) -> None:
    parsed = {page: Links(page) for page in pages(site)}
    for page, links in parsed.items():
        for target in links.targets:
            address = urlparse(target)
            assert not address.scheme, target
            assert not address.netloc, target
            goal = (page.parent / unquote(address.path)).resolve() if address.path else page
            assert goal.is_relative_to(site.resolve()), target
            assert goal.is_file(), f"{page}: {target}"
            if address.fragment and goal.suffix == ".html":
                assert address.fragment in parsed[site / goal.relative_to(site.resolve())].ids, f"{page}: {target}"


def test_text_from_records_is_only_text(site: Path) -> None:
    for page in pages(site):
        text = page.read_text(encoding="utf-8")
        assert "alert(1)</script>" not in text.replace("&lt;/script&gt;", ""), page
        assert "49" not in text or "{{7*7}}" in text or "7*7" not in text
    board = (site / "blocks").glob("streets-fcn-timm*.html")
    assert "&lt;script&gt;alert(1)" in next(board).read_text(encoding="utf-8")
    for data in (site / "data").iterdir():
        assert data.name.replace("-", "").replace(".", "").isalnum()


def test_what_a_page_could_have_found_is_by_the_rule_of_its_verdicts(site: Path, results: Path) -> None:
    """Verdicts are after Holm's correction: so is the difference that they would have found."""
    block = next(b for b in build(Store(results).runs()[0]) if b.title == "streets / fcn_timm")
    tested = [row.delta for row in block.rows if row.delta is not None and row.delta.sd is not None]
    found = sensitivity(tested)
    assert found is not None
    assert len(tested) == 5
    needed = detectable(found.sd, found.n, alpha=0.05 / 5)
    assert needed > found.detectable
    page = board_of(site, "streets-fcn-timm")
    assert f"a difference below {needed:.2f} points is found less than 4 times in 5 after Holm’s correction" in page
    assert f"as for a single loss: {found.detectable:.2f})" in page
    assert f"A difference below about {needed:.1f} points would mostly" in (site / "index.html").read_text()


def test_a_reference_that_nothing_has_is_refused(results: Path, tmp_path: Path) -> None:
    arguments = ["report", "--results", str(results), "--out", str(tmp_path / "a")]
    assert entry.run([*arguments, "--versus", "focall"]) == 2
    assert not (tmp_path / "a").exists()


def test_the_numbers_are_the_leaderboards(site: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run(["leaderboard", "--results", str(results), "--dataset", "streets", "--json"]) == 0
    block = next(b for b in json.loads(capsys.readouterr().out)["blocks"] if b["dataset"] == "streets")
    page = next(file for file in (site / "blocks").iterdir() if file.name.startswith("streets-fcn-timm")).read_text()
    for row in block["rows"]:
        assert f"<b>{row['scores']['miou']['mean']:.2f}</b>" in page
    stored = json.loads(next((site / "data").glob("streets-fcn-timm*.json")).read_text())
    assert [r["loss"] for r in stored["blocks"][0]["rows"]] == [r["loss"] for r in block["rows"]]


def test_what_is_odd_is_said(site: Path) -> None:
    board = next((site / "blocks").glob("streets-fcn-timm*.html")).read_text()
    assert "1 diverged" in board
    assert "3 losses with fewer than two seeds in common with it are not tested." in board
    assert "Holm’s correction for 5 rows" in board
    assert "stale" in board
    index = (site / "index.html").read_text()
    assert "lacks seeds 1, 2" in index
    assert re.search(r"streets.*?· 1 to \d seeds</p>", index, re.DOTALL), "rows differ in their number"
    assert "No run of the reference ce: no differences." in index
    run = next(page for page in (site / "runs").iterdir() if "loss nan at step 7" in page.read_text()).read_text()
    assert "Diverged." in run
    assert "--suite" in run
    assert "lossbench run again.yaml --threads 1 --results again" in run


def test_the_same_records_make_the_same_bytes(site: Path, results: Path, tmp_path: Path) -> None:
    assert make(results, tmp_path / "again") == 0
    ours, theirs = (
        {f.relative_to(d): f.read_bytes() for f in d.rglob("*") if f.is_file()} for d in (site, tmp_path / "again")
    )
    assert ours == theirs


def test_the_clock_can_be_fixed(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert entry.run(["report", "--results", str(results), "--out", str(tmp_path / "a"), "--runs", "0"]) == 0
    assert "1970-01-02 00:00 UTC" in (tmp_path / "a" / "index.html").read_text()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "noon")
    assert entry.run(["report", "--results", str(results), "--out", str(tmp_path / "a")]) == 2


def test_a_report_is_replaced_and_nothing_else(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert make(results, out) == 0
    (out / "mine.txt").write_text("kept")
    gone = next((out / "runs").iterdir())
    assert make(results, out, "--dataset", "context") == 0
    assert not gone.exists()
    assert (out / "mine.txt").read_text() == "kept"
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("words")
    assert make(results, other) == 2
    assert "holds other things than a report (chapter.tex)" in capsys.readouterr().err
    (other / MARKER).write_text(json.dumps({"files": ["../out/index.html", "/etc/passwd", 3]}))
    assert make(results, other, "--runs", "0") == 0
    assert (out / "index.html").is_file()


def test_run_pages_can_be_few_or_none(results: Path, tmp_path: Path) -> None:
    assert make(results, tmp_path / "few", "--runs", "12") == 0
    made = list((tmp_path / "few" / "runs").iterdir())
    assert 0 < len(made) <= 16  # at least one a row
    assert "have a page of their own" in (tmp_path / "few" / "index.html").read_text()
    assert make(results, tmp_path / "none", "--runs", "0") == 0
    assert not (tmp_path / "none" / "runs").exists()


def test_a_damaged_record_costs_its_own_page(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    victim = next((copy / "records").rglob("focal-s0-*.json"))
    victim.write_text(victim.read_text()[:100])
    assert make(copy, tmp_path / "out") == 0
    assert victim.name in capsys.readouterr().err
    assert victim.name in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.parametrize("options", [["--runs", "-1"], ["--equivalence", "0"], ["--dataset", "nothing"]])
def test_wrong_use(results: Path, tmp_path: Path, options: list[str]) -> None:
    assert make(results, tmp_path / "out", *options) == 2
    assert not (tmp_path / "out" / "index.html").exists()


def test_no_records(tmp_path: Path) -> None:
    assert make(tmp_path / "nothing", tmp_path / "out") == 2


def test_a_margin_marks_what_is_the_same(results: Path, tmp_path: Path) -> None:
    assert make(results, tmp_path / "out", "--equivalence", "30", "--runs", "0") == 0
    board = next((tmp_path / "out" / "blocks").glob("streets-fcn-timm*.html")).read_text()
    assert "same within the margin" in board


def test_a_suite_says_what_it_lacks(tmp_path: Path) -> None:
    put(Store(tmp_path / "results"))
    assert make(tmp_path / "results", tmp_path / "out", "--suite", "quickstart") == 0
    assert "Cells of the suite quickstart without a run" in (tmp_path / "out" / "index.html").read_text()


def test_a_suite_with_searches_says_what_is_ahead(tmp_path: Path) -> None:
    suite = fill_tuned(tmp_path, trials=2)
    assert make(tmp_path / "results", tmp_path / "out", "--suite", str(suite)) == 0
    index = (tmp_path / "out" / "index.html").read_text()
    assert "None: every cell has a run." not in index
    assert "streets / fcn_timm(weights=none), trials on a hold-out / ce: 1 of 3, seed 1000" in index
    assert "6 cells of the tuned track follow when the trials are done." in index
    fill_tuned(tmp_path)
    assert make(tmp_path / "results", tmp_path / "out", "--suite", str(suite)) == 0
    assert "None: every cell has a run." in (tmp_path / "out" / "index.html").read_text()


def board_of(site: Path, start: str) -> str:
    return next((site / "blocks").glob(f"{start}*.html")).read_text()


def test_the_page_of_a_tuned_leaderboard_has_the_whole_curve(tuned_site: Path, capsys: pytest.CaptureFixture[str]):
    results = str(tuned_site.parent / "results")
    assert entry.run(["tuning", "--results", results, "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["searches"]
    page = board_of(tuned_site, "streets-fcn-timm-weights-none-tuned")
    table = page[page.index('aria-label="Every trial as a table"') :].split("</table>")[0]
    drawn = json.loads(page.split('id="figures">')[1].split("</script>")[0])["tuning"]
    order = [next(c for c in group["losses"] if c["loss"] == loss) for loss in ("dice", "ce", "focal")]
    for curve, shown, expected in zip(order, drawn["curves"], drawn["expected"], strict=True):
        for trial in curve["trials"]:
            assert f"{trial['holdout_miou']:.2f}" in table
        best = curve["trials"][curve["chosen"] - 1]
        assert f"<b>{best['holdout_miou']:.2f}</b>" in table
        assert shown["x"] == sorted(trial["setting"]["lr"] for trial in curve["trials"])
        assert shown["x"][shown["chosen"]] == best["setting"]["lr"]
        assert shown["x"][shown["own"]] == 0.001
        assert shown["line"] == (curve["loss"] != "focal")
        assert expected == pytest.approx(curve["expected_best"], rel=1e-4)
    assert "gamma=0.5" in table
    assert "lr at the upper edge" in page
    assert 'id="tuning"' not in board_of(tuned_site, "streets-fcn-timm-weights-none-as-is")


def test_a_loss_is_one_as_is_and_tuned(tuned_site: Path) -> None:
    index = (tuned_site / "index.html").read_text()
    assert "<dt>losses</dt><dd>3</dd>" in index
    for caption in ("Difference in mIoU to ce in points, by loss and leaderboard", "Number of runs by loss"):
        table = index[index.index(caption) :].split("</table>")[0]
        assert table.count('<th scope="row">') == 3
        heads = table.split("</thead>")[0]
        assert "fcn_timm(weights=none); as is" in heads
        assert "fcn_timm(weights=none); tuned" in heads
    looks = [
        [loss["c"] for loss in sorted(json.loads(text)["losses"], key=lambda loss: loss["l"])]
        for track in ("as-is", "tuned")
        for text in [board_of(tuned_site, f"streets-fcn-timm-weights-none-{track}").split('id="figures">')[1]]
        for text in [text.split("</script>")[0]]
    ]
    assert looks[0] == looks[1]


def test_searches_that_cannot_be_read_cost_their_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise SetupError("sampler: tpe needs Optuna")

    fill_tuned(tmp_path)
    monkeypatch.setattr("lossbench.site.searches.of_runs", fails)
    assert make(tmp_path / "results", tmp_path / "out") == 0
    page = board_of(tmp_path / "out", "streets-fcn-timm-weights-none-tuned")
    assert "The trials cannot be shown: sampler: tpe needs Optuna." in page
    assert "Every trial" not in page


def test_tuned_runs_without_their_trials_are_shown_without_a_curve(tmp_path: Path) -> None:
    fill_tuned(tmp_path)
    for trial in (tmp_path / "results" / "records").rglob("ce-s1000-*"):
        trial.unlink()
    assert make(tmp_path / "results", tmp_path / "out") == 0
    page = board_of(tmp_path / "out", "streets-fcn-timm-weights-none-tuned")
    drawn = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    ce = [loss["l"].startswith("ce") for loss in drawn["losses"]].index(True)
    assert drawn["tuning"]["curves"][ce]["y"] == drawn["tuning"]["expected"][ce] == []
    assert drawn["tuning"]["curves"][ce]["chosen"] is drawn["tuning"]["curves"][ce]["own"] is None
    assert all(len(y) == 3 for place, y in enumerate(drawn["tuning"]["expected"]) if place != ce)


def test_pages_claim_what_is_so(site: Path) -> None:
    page = board_of(site, "context")
    assert "Images are shown only of datasets that lossbench generates." in page
    assert "Pooled scores are recomputed" in page
    assert "Every number here" not in page
    assert "the column “time ×” compares" in page
    assert "the column “time ×”" not in board_of(site, "apart")
    assert "No seed is missing among the losses that were run." not in (site / "index.html").read_text()


def test_one_is_singular(tmp_path: Path) -> None:
    put(Store(tmp_path / "results"))
    assert make(tmp_path / "results", tmp_path / "out") == 0
    index, page = (tmp_path / "out" / "index.html").read_text(), board_of(tmp_path / "out", "streets")
    assert "No seed is missing among the losses that were run." in index
    assert "<dt>run</dt><dd>1</dd>" in index
    assert "with 1 loss →" in index
    assert "1 run, seed 0" in page
    assert "Nothing but the reference ce was run here." in page
    for text in (index, page):
        assert not re.search(r"\b1 (runs|losses|seeds|rows|classes|leaderboards)\b", text)


def test_no_label_turns_the_text_of_a_page(site: Path) -> None:
    for page in pages(site):
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.read_text(encoding="utf-8")), page
    assert "etc\ufffdtxt" in board_of(site, "streets-fcn-timm")


def test_a_very_long_label_is_cut_in_tables_and_whole_on_its_page(site: Path) -> None:
    page = board_of(site, "streets-fcn-timm")
    rows = page[page.index("<tbody>") :].split("</tbody>")[0].split("</tr>")
    row = next(row for row in (row.replace("<wbr>", "") for row in rows) if "parameter_19=19" in row)
    assert f'title="{LONG}"' in row
    assert "parameter_10=10" not in re.sub(r'"[^"]*"', "", row)
    assert LONG[4:] in (site / "losses" / "long.html").read_text().replace("<wbr>", "")


@pytest.mark.parametrize(
    ("numbers", "text"), [([2, 0, 1], "0 to 2"), ([1000, 1000], "1000"), ([3, 4, 9], "3, 4, 9"), ([], "")]
)
def test_seeds_in_words(numbers: list[int], text: str) -> None:
    assert seeds(numbers) == text


def test_the_extra_is_asked_for_by_name(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['plotly'] = None; sys.modules['plotly.offline'] = None\n"
        "from lossbench.cli.main import run\n"
        f"sys.exit(run(['report', '--results', {str(results)!r}, '--out', {str(tmp_path / 'o')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3
    assert "pip install 'lossbench[report]'" in done.stderr


def test_torch_is_never_imported(results: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom lossbench.cli.main import run\n"
        f"run(['report', '--results', {str(results)!r}, '--out', {str(tmp_path / 'o')!r}])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_docstrings_are_set_as_type() -> None:
    text = "*sigmoid* losses, 2 * 3 * 4, u^gamma at p_y, |P - G|_1, `a_b` <b>"
    assert typeset(text) == (
        "<em>sigmoid</em> losses, 2 * 3 * 4, u<sup>γ</sup> at <i>p</i><sub>y</sub>, |P - G|<sub>1</sub>, "
        "<code>a_b</code> &lt;b&gt;"
    )


def test_every_rule_of_conformance_is_told_with_what_it_requires() -> None:
    from lossbench import conformance

    known = conformance.rules("loss")
    assert list(rules()) == list(known)
    assert all(rules().values())


@pytest.mark.parametrize("plugin", list(Registry("loss")), ids=lambda plugin: plugin.name)
def test_every_loss_has_a_formula(plugin: Plugin) -> None:
    assert all("<math" in formula for formula in formulas_of(plugin))
    assert formulas_of(plugin)


def test_formulas_are_mathml_and_unknown_ones_an_error() -> None:
    made = mathml(r"L = \frac{1}{N} \sum_i^N {(p_{y_i})}^2")
    assert made.count("<mfrac>") == 1
    assert "<munderover>" in made
    for wrong in (r"\unknown", "{", "_x", r"\frac{1}", r"\text x"):
        with pytest.raises(ValueError):
            mathml(wrong)
    assert "&lt;" in mathml("a < b")
