"""A cell on a published dataset whose images differ in size: scored at native size; its record says what was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench import metrics
from lossbench.cells import Cell, Component
from lossbench.execution import weights
from lossbench.execution.cellrun import CellRun
from lossbench.execution.predict import predict_split
from lossbench.protocol import Protocol
from lossbench.registry import Registry, all_registries
from tests.datasets import trees
from tests.execution.cellfactory import PROTOCOL, make_spec


@pytest.mark.parametrize("background", [False, True])
def test_images_of_many_sizes_are_scored_as_predicted(tmp_path: Path, background: bool) -> None:
    plugin = Registry("dataset").get("pascal_context")
    params = plugin.resolve({"background": background})
    dataset = plugin.build(params, root=trees.pascal_context(tmp_path / "data" / "pascal_context"))
    backbone = Registry("backbone").get("fcn_timm").resolve({"weights": "none"})
    protocol = Protocol(**{**PROTOCOL, "iterations": 2, "eval_split": "train"})
    cell = Cell(Component("pascal_context", params), Component("fcn_timm", backbone), Component("ce"), 0, protocol)
    outcome = CellRun(make_spec(cell, tmp_path, tmp_path / "cache", keep=("weights",))).run()
    assert outcome is not None
    record = outcome[0]
    assert record.notes == ["labels: trainval/*.mat, split list: ImageSets/Main/{train,val}.txt"]
    predicted = predict_split(
        weights.read(tmp_path / "runs" / cell.id / weights.FILE),
        all_registries(),
        split="train",
        form="png",
        out=tmp_path / "out",
        data_root=tmp_path / "data",
        cache_root=tmp_path / "cache",
        device="cpu",
    )
    assert predicted.images == 3
    total = np.zeros((dataset.num_classes, dataset.num_classes), np.int64)
    for index, name in enumerate(dataset.names("train")):
        labels = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        assert labels.shape == trees.VOC_SIZES[index]
        total += metrics.confusion_matrix(dataset.load("train", index)[1], labels, dataset.num_classes)
    assert (total == record.confusion).all()
    assert predicted.confusion is not None
    assert (predicted.confusion == record.confusion).all()


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    from torch import nn

    from lossbench.errors import DataError
    from tests.execution.cellfactory import make_cell

    cell = make_cell()
    path = weights.save(tmp_path, nn.Conv2d(1, 1, 1), cell, (), ())
    with pytest.raises(DataError, match="the weights do not fit backbone 'fcn_timm'"):
        predict_split(
            weights.read(path), all_registries(), split="val", form="png", out=tmp_path / "out",
            data_root=tmp_path, cache_root=tmp_path, device="cpu",
        )  # fmt: skip
    path = weights.save(tmp_path, nn.Conv2d(1, 1, 1), cell, ("other", "classes"), ())
    with pytest.raises(DataError, match="its classes are not those that the weights were trained on"):
        predict_split(
            weights.read(path), all_registries(), split="val", form="png", out=tmp_path / "out",
            data_root=tmp_path, cache_root=tmp_path, device="cpu",
        )  # fmt: skip
    assert not (tmp_path / "out").exists()
