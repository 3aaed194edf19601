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
    for unknown in ('{"cell": {}}', "[]", "1", '{"cell": {"dataset": {"name": "a", "params": []}}}'):
        save_file({"a": torch.zeros(1)}, path, {"lossbench": unknown})
        with pytest.raises(DataError, match="that this lossbench does not know"):
            weights.read(path)
    for damaged in ("", '{"cell": ', "[" * 100_000):
        save_file({"a": torch.zeros(1)}, path, {"lossbench": damaged})
        with pytest.raises(DataError, match="what its header says of its cell is damaged"):
            weights.read(path)


def test_a_checkpoint_needs_its_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = make_cell()
    spec = Spec(cell.to_json(), cell.id, results=tmp_path, data_root=tmp_path, cache_root=tmp_path)
    path = spec.run_dir / "checkpoint.pt"
    path.parent.mkdir(parents=True)
    checkpoint.save(path, {"model": {"a": torch.ones(2)}, "step": 3})
    with pytest.raises(DataError, match=r"has no spec\.json beside it"):
        weights.read(path)
    file = spec.write()
    read = weights.read(path)
    assert (read.cell.id, read.step) == (cell.id, 3)
    whole = file.read_text()
    for broken in ("", "{", "[]", "{}", whole.replace('"cell_id"', '"of_another_version"')):
        file.write_text(broken)
        with pytest.raises(DataError, match=r"spec\.json: cannot be read"):
            weights.read(path)
    file.write_text(whole)
    for foreign in ({"a": torch.ones(2)}, torch.ones(2), {"model": 1, "step": 1}, {"model": {}, "step": None}):
        torch.save(foreign, path)
        with pytest.raises(DataError, match="is no checkpoint of lossbench"):
            weights.read(path)
    for content in (b"x", b"", b"PK", b"\x80\x02}q\x00.", b"\x80\x020.", b"J", b"\x80\x02h\x00."):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a checkpoint") as caught:
            weights.read(path)
        assert "\n" not in caught.value.message
    assert capsys.readouterr() == ("", ""), "nothing starts anew here"


def test_an_unfinished_run_is_no_result(tmp_path: Path, model: nn.Module) -> None:
    cell, store = make_cell(), Store(tmp_path)
    spec = Spec(cell.to_json(), cell.id, results=tmp_path, data_root=tmp_path, cache_root=tmp_path)
    spec.write()
    path = spec.run_dir / "checkpoint.pt"
    checkpoint.save(path, {"model": {"a": torch.ones(2)}, "step": 3})
    assert weights.find(str(path), store) == path, "a file that is named is meant"
    for name in (cell.id[:6], str(spec.run_dir)):
        with pytest.raises(ConfigError, match=f"run {cell.id} is unfinished, step 3 of 8$") as caught:
            weights.find(name, store)
        assert "finish it with `lossbench run`" in (caught.value.hint or "")
        assert str(path) in (caught.value.hint or "")
    final = weights.save(spec.run_dir, model, cell, [], ())
    with pytest.raises(ConfigError, match="is unfinished"):  # those of a record that was set aside
        weights.find(cell.id, store)
    path.write_bytes(b"x")
    with pytest.raises(ConfigError, match=f"run {cell.id} is unfinished$"):
        weights.find(cell.id, store)
    path.unlink()
    assert weights.find(cell.id, store) == final
    assert weights.read(final).step is None


def test_a_checkpoint_left_beside_a_record_is_of_a_finished_run(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, store = make_cell(), Store(tmp_path)
    final = weights.save(_made(tmp_path / "runs" / cell.id), model, cell, [], ())
    checkpoint.save(final.with_name("checkpoint.pt"), {"model": {}, "step": 3})
    asked: list[str] = []
    monkeypatch.setattr(Store, "find", lambda self, run: asked.append(f"{self.root} {run}"))
    assert weights.find(cell.id, store) == final
    assert asked == [f"{tmp_path} {cell.id}"]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


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
    for name in ("9999", "no/such/file", "no.safetensors", "a" * 300):
        with pytest.raises(UnknownNameError):
            weights.find(name, store)
    with pytest.raises(UnknownNameError, match=f"no run folder: {tmp_path} has neither"):
        weights.find(str(tmp_path), store)
    for empty in ("", " "):
        with pytest.raises(ConfigError, match="an empty name of a run"):
            weights.find(empty, store)
    with pytest.raises(ConfigError, match="no home folder for ~no-such-user"):
        weights.find("~no-such-user/x", store)


def test_a_folder_of_any_kind_does_not_hide_a_run(
    tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = weights.save(_made(tmp_path / "runs" / "abcd1111"), model, make_cell(), [], ())
    (tmp_path / "abcd").mkdir()
    monkeypatch.chdir(tmp_path)
    assert weights.find("abcd", Store(tmp_path)) == kept
