"""The list of code that plugins once had: right for the code of now, and for a history of our own."""

from __future__ import annotations

from pathlib import Path

import lossbench
from lossbench.codehistory import from_git, hashes_of
from lossbench.provenance import code_hash
from lossbench.readmany import read_record
from lossbench.registry import KINDS, all_registries
from lossbench.scan import json_files
from lossbench.verification.code import history
from tests.verification.test_verify import git

PACKAGE = Path(lossbench.__file__).parent
RESULTS = PACKAGE.parent / "results"
LOSS = """
from lossbench.registry import register_loss
from lossbench.losses._shared import number

@register_loss("mine")
class Mine:
    def __init__(self, *, gamma: float = {gamma}): ...
"""


def test_it_is_the_hash_that_records_hold():
    registries = all_registries()
    found = hashes_of(PACKAGE)
    assert {kind for kind, _ in found} == set(KINDS)
    for (kind, name), digest in found.items():
        assert digest == code_hash(registries[kind].get(name)), name


def test_the_code_of_the_committed_records_is_in_the_list():
    for path in json_files(RESULTS / "records"):
        record = read_record(path)
        for kind in KINDS:
            name = record.cell[kind]["name"]
            if name != "sum":  # its hash depends on its terms
                assert record.provenance["code"][kind] in history()[kind][name]


def test_a_history(tmp_path):
    losses = tmp_path / "lossbench" / "losses"
    losses.mkdir(parents=True)
    shared, loss = losses / "_shared.py", losses / "mine.py"
    git(tmp_path, "init", "-q")
    (tmp_path / "README").write_text("x")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "nothing yet")
    expected = set()
    for number, gamma in ((1, 1.0), (1, 2.0), (2, 2.0)):  # the loss changes, then what it imports
        shared.write_text(f"number = {number}\n")
        loss.write_text(LOSS.format(gamma=gamma))
        expected.add(hashes_of(tmp_path / "lossbench")["loss", "mine"])
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-qm", "change")
    assert len(expected) == 3
    assert from_git(tmp_path) == {"loss": {"mine": sorted(expected)}}
