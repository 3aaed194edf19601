from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from lossbench.errors import ConfigError, DataError, RecordError
from lossbench.figures import kept as reading
from lossbench.figures.make import make_panels
from lossbench.figures.panels import default_columns
from lossbench.registry import Registry
from tests.execution.cellfactory import STREETS
from tests.figures.conftest import Kept


def pictures(figure):
    return [axes for axes in figure.axes if axes.images]


def titles(figure):
    return [axes.get_title().replace("\n", "") for axes in pictures(figure)]


def test_rows_are_images_and_columns_image_truth_and_losses(kept: Kept) -> None:
    drawing, missing = make_panels(kept.block, kept.store)
    assert missing == []
    assert titles(drawing.figure) == ["image", "ground truth", "ce", "focal", *[""] * 4]
    assert len(pictures(drawing.figure)) == 8
    tops = [round(axes.get_position().y1, 6) for axes in pictures(drawing.figure)]
    assert len(set(tops[:4])) == len(set(tops[4:])) == 1
    dataset = Registry("dataset").get("streets").build(STREETS, root=kept.results)
    shown = drawing.data[0]["image"]
    image, truth = dataset.load("val", dataset.names("val").index(shown))
    assert np.array_equal(pictures(drawing.figure)[0].images[0].get_array(), image)
    legend = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
    assert {dataset.class_names[i] for i in np.unique(truth) if i != 255} <= set(legend)
    assert "wrong" in legend


def test_each_panel_tells_the_miou_of_its_image(kept: Kept) -> None:
    drawing, _ = make_panels(kept.block, kept.store)
    for entry in drawing.data:
        assert entry["miou"]["ce"] == pytest.approx(100)
        assert entry["miou"]["focal"] < 60
    notes = [text.get_text() for axes in pictures(drawing.figure) for text in axes.texts]
    assert notes[0] == "mIoU 100.0"
    assert notes[1] == f"mIoU {drawing.data[0]['miou']['focal']:.1f}"


def test_one_seed_which_the_caption_names(kept: Kept) -> None:
    first, second = (make_panels(kept.block, kept.store, seed=seed)[0] for seed in (None, 1))
    assert ", seed 0, val images " in first.caption
    assert ", seed 1, val images " in second.caption
    assert "generated; no restrictions" in first.caption
    assert not set(first.records) & set(second.records)
    with pytest.raises(ConfigError, match="no run of seed 7") as caught:
        make_panels(kept.block, kept.store, seed=7)
    assert "seed 0, 1" in str(caught.value.hint)


def test_panels_of_many_losses_go_on_below(kept: Kept) -> None:
    drawing, _ = make_panels(kept.block, kept.store, columns=3)
    assert titles(drawing.figure) == ["image", "ground truth", "ce", "focal"] * 2
    assert drawing.figure.get_figwidth() == 7.16
    boxes = [axes.get_position() for axes in pictures(drawing.figure)]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert boxes[3].y1 < boxes[0].y0


@pytest.mark.parametrize(("number", "columns"), [(8, 8), (10, 10), (16, 8), (11, 6), (3, 3)])
def test_lines_are_evenly_filled(number: int, columns: int) -> None:
    assert default_columns(number, 7.16) == columns


def test_without_predictions_a_hint_says_how_to_get_them(kept: Kept) -> None:
    for run in kept.runs:
        (run / "predictions" / "index.json").unlink()
    with pytest.raises(ConfigError, match="no run of streets / fcn_timm has kept predictions") as caught:
        make_panels(kept.block, kept.store)
    assert "lossbench run SUITE" in str(caught.value.hint)


def test_a_loss_without_predictions_is_named(kept: Kept) -> None:
    focal = next(row for row in kept.block.rows if row.label == "focal")
    for run_id in focal.runs.ids:
        (kept.store.run_dir(run_id) / "predictions" / "index.json").write_text("{")
    drawing, missing = make_panels(kept.block, kept.store)
    assert missing == ["focal"]
    assert "focal" not in titles(drawing.figure)


def test_images_by_name(kept: Kept) -> None:
    drawing, _ = make_panels(kept.block, kept.store)
    shown = [entry["image"] for entry in drawing.data]
    only, _ = make_panels(kept.block, kept.store, images=shown[1:])
    assert [entry["image"] for entry in only.data] == shown[1:]
    with pytest.raises(ConfigError, match="has no image 'val_0000'") as caught:
        make_panels(kept.block, kept.store, images=["val_0000"])
    assert "did you mean" in str(caught.value.hint)
    other = next(name for name in (f"val_{i:05d}" for i in range(6)) if name not in shown)
    with pytest.raises(ConfigError, match=f"no prediction of image '{other}' was kept by ce, focal") as caught:
        make_panels(kept.block, kept.store, images=[other])
    assert "--keep predictions" in str(caught.value.hint)


def test_predictions_of_another_run_are_refused(kept: Kept) -> None:
    run = reading.kept_runs(kept.block, kept.store)[0]
    path = run.folder / f"{run.shown[0]}.png"
    labels = np.asarray(Image.open(path)).copy()
    labels[:5] = 1
    Image.fromarray(labels).save(path)
    with pytest.raises(RecordError, match="not what the record of ce, seed 0, was scored on"):
        make_panels(kept.block, kept.store)
    path.write_bytes(b"no picture")
    with pytest.raises(RecordError, match="unreadable prediction"):
        make_panels(kept.block, kept.store)


def test_other_data_than_was_scored_is_refused(kept: Kept) -> None:
    for run in kept.runs:
        index = run / "predictions" / "index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"fingerprint": "0" * 12}))
    with pytest.raises(DataError, match="are not those that the runs were scored on") as caught:
        make_panels(kept.block, kept.store)
    assert "--data-root" in str(caught.value.hint)
