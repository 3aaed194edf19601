from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from lossbench.errors import ConfigError, SetupError
from lossbench.figures.saving import FORMATS, save
from lossbench.figures.style import paper_style


def write(path: Path, width: float = 3.5) -> None:
    with paper_style():
        figure = Figure(figsize=(width, 1.5))
        figure.subplots().bar([1, 2], [3, 4], hatch="//", label="x")
        figure.axes[0].set_xlabel("some words")
        save(figure, path, title="a title", description="said of it")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_bytes_and_nothing_else_is_left(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "new" / f"a.{kind}")
    write(tmp_path / "new" / f"b.{kind}")
    first, second = (tmp_path / "new" / f"{name}.{kind}" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name, second.name]
    assert not re.search(rb"20\d\d-\d\d-\d\d|D:20\d\d", first.read_bytes())


def test_a_png_has_its_size_and_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1050, 450)  # 3.5 x 1.5 inches at 300 dpi
        assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
        assert picture.info["Title"] == "a title"
        assert picture.info["Description"] == "said of it"


def test_text_stays_text(tmp_path: Path) -> None:
    write(tmp_path / "a.svg")
    write(tmp_path / "a.pdf")
    assert "some words" in (tmp_path / "a.svg").read_text()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # an embedded TrueType font
    assert b"/Type3" not in pdf


@pytest.mark.parametrize(("name", "word"), [("a.jpg", "'.jpg' files"), ("a", "a name without ending")])
def test_other_formats_are_refused(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word) as caught:
        write(tmp_path / name)
    assert "png" in str(caught.value.hint)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def broken(self: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(SetupError, match="No space left"):
        write(tmp_path / "a.png", width=5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before
