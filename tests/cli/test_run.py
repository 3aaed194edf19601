"""`lossbench run`: what it does before anything runs."""

from pathlib import Path

import pytest

from lossbench.cli.main import run
from lossbench.cli.run import _counted
from lossbench.store import Store
from lossbench.suite import load_suite
from tests.factories import make_cell, make_record

SUITE = "datasets: [streets]\nbackbones: [{name: fcn_timm, weights: none}]\nlosses: [ce]\n"


@pytest.mark.parametrize("options", [["--devices", "abacus"], ["--executor", "slurm"]])
def test_records_are_set_aside_only_when_they_can_be_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no Slurm here
    (tmp_path / "suite.yaml").write_text(SUITE)
    (cell,) = load_suite("suite.yaml").cells()
    _, record, per_image = make_record()
    record.cell = cell.identity  # made by other code: the factories' hashes are nobody's
    store = Store(tmp_path / "results")
    store.write(cell, record, per_image, [f"image_{i}" for i in range(len(per_image))])
    assert run(["run", "suite.yaml", "--rerun-stale", *options]) in (2, 3)
    assert store.has(cell)
    assert not (tmp_path / "results" / "replaced").exists()


def test_cells_that_failed_in_an_earlier_round_are_not_counted_as_done() -> None:
    cells = [make_cell(seed=seed) for seed in range(10)]
    done = {cell.id for cell in cells[:4]}
    text = _counted(cells, cells[8:], cells[4:8], lambda cell: cell.id in done)
    names = "; ".join(cell.name for cell in cells[4:7])
    assert text == f"10 cells, 4 done before, 4 failed ({names}; ...), 2 to run"
    assert _counted(cells, cells[4:], [], lambda cell: cell.id in done) == "10 cells, 4 done before, 6 to run"
