"""The pages under docs/ say what their commands print; and the machinery that sees to it works."""

from __future__ import annotations

import json
import re

import pytest

from lossbench import metrics
from lossbench.cells import short_hash
from lossbench.cli.main import run as command_line
from lossbench.store import Store
from tests.docs import ROOT, Block, BlockError, blocks, expected, main, pages, updated
from tests.factories import put, quickstart

HINT = "run `python -m tests.docs --write`, and look at what changed"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_is_what_its_command_prints(page):
    for block in blocks(page):
        assert block.text == expected(block), f"{block}: not what `{block.command}` prints: {HINT}"


def test_the_numbers_of_the_answer_are_those_of_its_blocks():
    """The conclusion of docs/paper.md is prose; but what it quotes stands in a block that a command makes."""
    page = next(page for page in pages() if page.name == "paper.md")
    text = page.read_text(encoding="utf-8")
    _, found, conclusion = text.partition("\n## Conclusion\n")
    assert found
    quoted = re.findall(r"(?<![\d.])\d+\.\d+(?:e-\d+)?(?!\d|\.\d)", conclusion)
    assert len(quoted) > 5
    known = set(re.findall(r"\d+\.\d+(?:e-\d+)?", "".join(block.text for block in blocks(page))))
    # 0.3: the margin, which the commands name.
    assert set(quoted) - known <= {"0.3"}, HINT


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_and_picture_in_the_root_leads_to_a_file(name):
    """Those of docs/ are looked at when the site is built."""
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text) if "://" not in link]
    assert links or name == "CHANGELOG.md"
    assert not [link for link in links if not (ROOT / link).exists()]


PAGE = """# A page

Before.

<!-- run: lossbench leaderboard --loss "c*" -->
old
<!-- end -->

Between.

<!-- run: lossbench leaderboard --equivalence 0.3 --format markdown -->
<!-- end -->

<!-- run: lossbench audit -->
<!-- end -->

After.
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with records and a page."""
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    quickstart(Store(tmp_path / "results"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text(PAGE)
    return tmp_path


def text_of(root):
    return (root / "docs" / "page.md").read_text()


def test_writing_fills_the_blocks_and_nothing_else(root, capsys):
    assert main([], root) == 1
    assert text_of(root) == PAGE
    assert main(["--write"], root) == 0
    made = text_of(root)
    assert "page.md: rewritten" in capsys.readouterr().out
    assert [line for line in made.splitlines() if line.startswith("<!--")] == [
        line for line in PAGE.splitlines() if line.startswith("<!--")
    ]
    assert made.startswith(PAGE[: PAGE.index("old")] + "```text\nstreets / fcn_timm")
    assert made.endswith("\n```\n<!-- end -->\n\nAfter.\n")
    assert "markdown -->\n\n### streets / fcn_timm" in made
    assert "| cdfl(omega=0.01) |" in made
    assert max(len(line) for line in made.splitlines() if not line.startswith(("|", "- ", "<!--"))) <= 80
    assert main([], root) == 0
    assert updated(root / "docs" / "page.md", root) == made


def test_it_does_not_depend_on_where_and_by_whom_it_is_run(root, tmp_path, monkeypatch):
    main(["--write"], root)
    monkeypatch.setenv("COLUMNS", "133")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("LOSSBENCH_RESULTS", str(tmp_path / "elsewhere"))
    monkeypatch.chdir("/")
    assert main([], root) == 0


def test_a_changed_record_is_noticed(root):
    main(["--write"], root)
    put(Store(root / "results"), loss="ce", seed=1, quality=0.5)
    assert main([], root) == 1


def test_a_new_record_is_noticed(root):
    main(["--write"], root)
    put(Store(root / "results"), loss="cdfl", seed=9)
    assert main([], root) == 1


def test_changed_code_is_not_a_change_of_the_page(root, monkeypatch, capsys):
    """The records of the factories are stale from the start: no file hashes to "aaaaaaaaaaaa"."""
    monkeypatch.chdir(root)
    assert command_line(["leaderboard"]) == 0
    assert "Stale (~)" in capsys.readouterr().out
    assert main(["--write"], root) == 0
    assert "~" not in text_of(root)
    assert "tale" not in text_of(root)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!-- run: lossbench list losses -->\n", "page.md:1: the block has no '<!-- end -->'"),
        ("a\n<!-- end -->\n", "page.md:2: '<!-- end -->' without"),
        (
            "<!-- run: lossbench list losses -->\n" * 2,
            "page.md:2: the block of line 1",
        ),
        ("text <!-- run: lossbench list losses -->\n", "page.md:1: not '<!-- run: lossbench ... -->' on a line"),
        ("<!-- run: lossbench run x -->\n<!-- end -->\n", "page.md:1: not `lossbench` and one of"),
        ("<!-- run: rm x -->\n<!-- end -->\n", "page.md:1: not `lossbench` and one of"),
        ("<!-- run: lossbench leaderboard --loss nix -->\n<!-- end -->\n", "no record matches --loss 'nix'"),
        ("<!-- run: lossbench leaderboard --nix -->\n<!-- end -->\n", "exits with 2"),
    ],
)
def test_a_block_that_cannot_be_made_is_one_line_with_its_place(root, page, said, capsys):
    (root / "docs" / "page.md").write_text(page)
    assert main([], root) == 2
    error = capsys.readouterr().err
    assert said in error


def test_a_warning_is_no_text_for_a_page(root):
    next((root / "results").rglob("focal-s1-*.json")).write_text("{")
    page = root / "docs" / "page.md"
    with pytest.raises(BlockError, match="not valid JSON"):
        expected(Block(page, "lossbench leaderboard", 1, 2, ""), root)


# --- figures ---

FIGURE = "<!-- run: lossbench figure classes -o docs/figures/classes.svg -->\n<!-- end -->\n"


@pytest.fixture
def drawn(root):
    (root / "docs" / "page.md").write_text(FIGURE)
    assert main(["--write", "--figures"], root) == 0
    return root


def test_a_figure_stands_on_its_page_with_its_caption_and_numbers(drawn):
    assert "![IoU per class on streets / fcn_timm](figures/classes.svg)" in text_of(drawn)
    assert "*IoU per class on streets" in text_of(drawn)
    facts = json.loads((drawn / "docs" / "figures" / "classes.json").read_text())
    assert len(facts["records"]) == 18
    assert facts["numbers"] in (drawn / "docs" / "figures" / "classes.svg").read_text()
    assert main([], drawn) == 0


@pytest.mark.parametrize("how", ["record", "numbers", "picture", "missing"])
def test_a_figure_that_is_not_what_the_records_say_is_noticed(drawn, how, capsys):
    numbers = drawn / "docs" / "figures" / "classes.json"
    picture = numbers.with_suffix(".svg")
    if how == "record":
        put(Store(drawn / "results"), loss="ce", seed=1, quality=0.5)
    elif how == "numbers":
        facts = json.loads(numbers.read_text())
        facts["data"][0]["iou"] = 0.001
        numbers.write_text(json.dumps(facts))
    elif how == "picture":
        digest = json.loads(numbers.read_text())["numbers"]
        picture.write_text(picture.read_text().replace(digest, "0" * 16))
    else:
        picture.unlink()
    assert main([], drawn) == 2
    assert "page.md:1: " in capsys.readouterr().err


def test_panels_are_checked_against_the_counts_per_image(root, capsys):
    """Their predictions are not committed: the scores in the figure are what can be worked out again."""
    store = Store(root / "results")
    stored = next(s for s in store.read_all()[0] if s.record.labels["loss"] == "ce" and s.record.seed == 0)
    scores = 100 * metrics.mean(metrics.class_scores(stored.per_image[2])["iou"])
    data = [{"image": "image_2", "seed": 0, "miou": {"ce": float(scores)}}]

    def write():
        numbers = short_hash({"data": data, "records": [stored.record.id]})
        facts = {"kind": "panels", "file": "p.png", "title": "Panels", "caption": "What.", "numbers": numbers}
        facts |= {"records": [stored.record.id], "data": data}
        (root / "docs" / "figures").mkdir(exist_ok=True)
        (root / "docs" / "figures" / "p.json").write_text(json.dumps(facts))
        (root / "docs" / "figures" / "p.png").write_bytes(b"... Numbers: " + numbers.encode() + b".")

    (root / "docs" / "page.md").write_text(FIGURE.replace("classes", "panels", 1).replace("classes.svg", "p.png"))
    write()
    assert main(["--write"], root) == 0
    assert "![Panels](figures/p.png)" in text_of(root)
    data[0]["miou"]["ce"] += 0.01
    write()
    assert main([], root) == 2
    assert "mIoU of ce on image_2 is not what its record says" in capsys.readouterr().err
