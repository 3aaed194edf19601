from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lossbench.cells import Component
from lossbench.errors import ConfigError, DataError, UnknownNameError
from lossbench.execution import weights
from lossbench.execution.spec import Spec
from lossbench.store import Store
from lossbench.training import checkpoint
from tests.execution.cellfactory import make_cell


@pytest.fixture
def model() -> nn.Module:
    """With what safetensors does not take as it is: strided, shared, 0-dim."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    net.to(memory_format=torch.channels_last)
    net[3].weight = net[2].weight
    return net


def test_round_trip(tmp_path: Path, model: nn.Module) -> None:
    cell = make_cell("focal", gamma=3.0)
    path = weights.save(tmp_path, model, cell, ["a", "b"], [Path("mine.py")])
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    back = weights.read(path)
    assert back.cell.id == cell.id
    assert (back.class_names, back.plugins) == (("a", "b"), (Path("mine.py"),))
    assert checkpoint.weights_hash(back.state) != checkpoint.weights_hash({})
    expected = model.state_dict()
    assert back.state.keys() == expected.keys()
    assert all(torch.equal(back.state[name], value) for name, value in expected.items())


def test_a_path_among_the_parameters_comes_back_as_one(tmp_path: Path, model: nn.Module) -> None:
    cell = make_cell()
    given = Component("folder", {"path": tmp_path, "title": "t"}, ("title",))
    cell = type(cell)(given, cell.backbone, cell.loss, cell.seed, cell.protocol)
    back = weights.read(weights.save(tmp_path, model, cell, [], ())).cell
    assert back.dataset == given
    assert back.id == cell.id


def test_what_cannot_be_read_is_told(tmp_path: Path, model: nn.Module) -> None:
    path = weights.save(tmp_path, model, make_cell(), [], ())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cannot be read as safetensors"):
        weights.read(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="does not say which cell it is of"):
        weights.read(path)
    save_file({"a": torch.zeros(1)}, path, {"lossbench": '{"cell": {}}'})
    with pytest.raises(DataError, match="that this lossbench does not know"):
        weights.read(path)


def test_a_checkpoint_needs_its_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = make_cell()
    spec = Spec(cell.to_json(), cell.id, results=tmp_path, data_root=tmp_path, cache_root=tmp_path)
    path = spec.run_dir / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    checkpoint.save(path, {"model": {"a": torch.ones(2)}, "step": 3})
    with pytest.raises(DataError, match=r"has no spec\.json beside it"):
        weights.read(path)
    spec.write()
    assert weights.read(path).cell.id == cell.id
    assert weights.find(cell.id[:6], Store(tmp_path)) == path
    path.write_bytes(b"x")
    with pytest.raises(DataError, match="cannot be read"):
        weights.read(path)


def test_finding_a_run(tmp_path: Path, model: nn.Module) -> None:
    store = Store(tmp_path)
    for run in ("abcd1111", "abcd2222", "ef003333"):
        (tmp_path / "runs" / run).mkdir(parents=True)
    first = weights.save(tmp_path / "runs" / "abcd1111", model, make_cell(), [], ())
    assert weights.find("ABCD1", store) == first
    assert weights.find("abcd", store) == first, "the other kept none"
    assert weights.find(str(first), store) == weights.find(str(first.parent), store) == first
    weights.save(tmp_path / "runs" / "abcd2222", model, make_cell(), [], ())
    with pytest.raises(ConfigError, match="'abcd' is the beginning of 2 runs"):
        weights.find("abcd", store)
    with pytest.raises(ConfigError, match="the weights of run ef003333 were not kept") as caught:
        weights.find("ef", store)
    assert "--keep weights" in (caught.value.hint or "")
    for name in ("9999", "no/such/file", "no.safetensors"):
        with pytest.raises(UnknownNameError):
            weights.find(name, store)
