from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from lossbench.figures.style import (
    LONGEST,
    Look,
    by_rows,
    legend_above,
    legend_columns,
    legend_height,
    paper_style,
    shortened,
    text_width,
)

#: Machado, Oliveira, Fernandes 2009: what is seen without one kind of cone; matrices on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color: str, vision: str) -> np.ndarray:
    """CIE L*a*b* (D65) of a colour as that vision sees it."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(VISIONS[vision]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_of_eight_losses_differ_in_colour_for_any_eye(vision: str) -> None:
    colors = [lab(Look.of(place).color, vision) for place in range(8)]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(colors, 2)) > 15


def test_forty_losses_differ_without_any_colour_or_with_it() -> None:
    looks = [Look.of(place) for place in range(32)]
    assert len({(look.color, look.hatch) for look in looks}) == 32
    assert len({(look.color, look.marker) for look in looks[:24]}) == 24
    assert len({look.marker for look in looks[:8]}) == 8


def test_the_users_own_matplotlibrc_has_no_say() -> None:
    with matplotlib.rc_context({"font.size": 31, "svg.fonttype": "path"}):
        with paper_style():
            assert matplotlib.rcParams["font.size"] == 8
            assert matplotlib.rcParams["svg.fonttype"] == "none"
            assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.size"] == 31


def test_text_is_as_wide_as_it_is_drawn() -> None:
    with paper_style():
        figure = Figure(figsize=(4, 1), dpi=300)
        drawn = figure.text(0, 0, "lovasz_softmax", fontsize=7).get_window_extent()
    assert text_width("ce\nlovasz_softmax", 7) == pytest.approx(drawn.width / 300, rel=0.06)


def test_a_legend_is_as_wide_as_fits_and_read_by_rows() -> None:
    assert legend_columns(["ce", "df", "focal"], 7.0, 7) == 3
    assert legend_columns(["a very long label of a loss" * 2] * 4, 3.5, 7) == 1
    assert by_rows([1, 2, 3, 4, 5], 3) == [1, 4, 2, 5, 3]


#: As the leaderboard tells apart nested sums of one label.
NESTED = "sum(terms=[{'name': 'ce', 'weight': 0.5}, {'name': 'sum', 'terms': [{'name': 'focal', 'gamma': %s}]}]) !"


def test_long_labels_are_cut_and_still_differ() -> None:
    labels = ["ce", "x" * LONGEST, NESTED % 2, NESTED % 3, "lovasz_softmax" * 9]
    shown = shortened(labels)
    assert shown[:2] == labels[:2]
    assert max(map(len, shown)) == LONGEST
    assert len(set(shown)) == 5
    assert [label[-1] for label in shown[2:4]] != ["!", "?"]
    assert shown[4].startswith("lovasz_softmaxlovasz")


def test_a_legend_shows_no_raw_dictionaries_at_length() -> None:
    with paper_style():
        figure = Figure(figsize=(7.16, 3), layout="constrained")
        (line, other) = figure.subplots().plot([[0, 1], [1, 0]])
        legend_above(figure, [line, other], ["ce", NESTED % 2])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == shortened(["ce", NESTED % 2])
    assert legend_height(["ce", "df", NESTED % 2], 7.16) == legend_height(["ce", "df", "x" * 60], 7.16)
