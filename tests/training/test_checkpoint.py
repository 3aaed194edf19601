from pathlib import Path

import pytest
import torch

from lossbench.errors import DataError, SetupError
from lossbench.training import checkpoint


def test_round_trip_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"step": 3, "w": torch.arange(4.0)})
    state = checkpoint.load(path)
    assert state is not None
    assert state["step"] == 3
    assert torch.equal(state["w"], torch.arange(4.0))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none.pt") is None


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_truncated_checkpoint_costs_time_not_the_run(
    tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"w": torch.arange(1000.0)})
    path.write_bytes(path.read_bytes()[:keep])
    assert checkpoint.load(path) is None
    assert "passed over" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "one bit", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.pt"
    for step in range(3):
        checkpoint.save(path, {"step": step, "w": torch.arange(1000.0)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.prev.pt", "checkpoint.pt"]
    assert (checkpoint.load(path) or {})["step"] == 2
    whole = path.read_bytes()
    if damage == "gone":  # killed between the two renames
        path.unlink()
    elif damage == "one bit":  # in the middle of the weights
        place = whole.index(torch.arange(1000.0).numpy().tobytes()) + 2001
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"\xff" * len(whole))
    assert (checkpoint.load(path) or {})["step"] == 1
    checkpoint.drop_damaged(path)
    checkpoint.save(path, {"step": 7})
    assert (checkpoint.load(path) or {})["step"] == 7
    path.write_bytes(b"")  # what the next one kept is not the damaged one
    assert (checkpoint.load(path) or {})["step"] == 1


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "pwned",))  # type: ignore[return-value]

    torch.save({"x": Evil()}, tmp_path / "evil.pt")
    assert checkpoint.load(tmp_path / "evil.pt") is None
    assert not (tmp_path / "pwned").exists()


def test_unwritable_is_a_setup_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot write checkpoint"):
        checkpoint.save(tmp_path / "missing" / "checkpoint.pt", {"step": 0})


def test_hash_sees_one_bit_and_bfloat16() -> None:
    state = {"w": torch.zeros(3), "b": torch.zeros(2, dtype=torch.bfloat16), "n": torch.tensor(1)}
    before = checkpoint.weights_hash(state)
    assert before == checkpoint.weights_hash({k: v.clone() for k, v in state.items()})
    state["w"][1] = torch.finfo(torch.float32).tiny
    assert before != checkpoint.weights_hash(state)


def test_reading_one_that_is_meant_says_nothing_and_raises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"model": {}, "step": 3})
    assert checkpoint.read(path) == {"model": {}, "step": 3}
    for keep in (300, 10, 0):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(DataError, match="cannot be read as a checkpoint"):
            checkpoint.read(path)
    with pytest.raises(DataError, match=r"none\.pt: cannot be read"):
        checkpoint.read(tmp_path / "none.pt")
    assert capsys.readouterr() == ("", "")
