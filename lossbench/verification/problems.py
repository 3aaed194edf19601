"""What can be wrong with a results folder, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        rule: a key of RULES.
        path: of the file, below the results folder, with forward slashes.
        message: what is wrong, in one line.
        warning: it may be in order; only `--strict` fails on it.
    """

    rule: str
    path: str
    message: str
    warning: bool = False


@dataclass(frozen=True)
class Rule:
    """What is required, and what to do when it is not so; both in a line."""

    says: str
    remedy: str


_RERUN = "run the cell again; no record is changed by hand"
_DATA = "compare your data with `lossbench data check`"

#: In the order in which they are shown.
RULES: Mapping[str, Rule] = {
    "file": Rule(
        "only records and their counts, as regular files of a sensible size",
        "take the file out, or replace the link by what it leads to",
    ),
    "schema": Rule("a whole record of a layout that this lossbench knows", "copy the file again from where it was run"),
    "id": Rule("its id is the hash of its cell", _RERUN),
    "place": Rule("it lies where its cell says", "bring records here with `lossbench merge`, not by hand"),
    "cell": Rule("a cell that a suite can name: seed, protocol, parameters", _RERUN),
    "labels": Rule("its labels name what its cell says was run", _RERUN),
    "values": Rule("no number that cannot be: pixels, times, curves, dates", _RERUN),
    "counts": Rule("the per-image counts are there, whole, and sum to the matrix", "copy both files again, or rerun"),
    "figures": Rule("every figure it states is that of its confusion matrix", _RERUN),
    "split": Rule("scored and trained on the same pixels as others of its dataset", _DATA),
    "images": Rule("scored on the same images as others of its dataset and split", _DATA),
    "twice": Rule("one record a cell", "keep the one that lies where its cell says"),
    "copied": Rule("no two cells with the same confusion matrix", "run both cells again, and keep what comes out"),
    "code": Rule("made by plugin code that is known here", "give the file with --plugin, or merge the code first"),
    "change": Rule("no record that was there is changed or deleted", "put it back; a maintainer may --allow-changes"),
}  # fmt: skip
