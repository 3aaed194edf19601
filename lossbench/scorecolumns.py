"""What the columns and cells of a table of scores mean: spellings of papers, toolboxes and our own exports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from typing import Any

from lossbench.audit import MEASURES, SCALARS, Score
from lossbench.errors import ConfigError

_SPELLINGS = {
    "iou": ("iou", "jaccard"),
    "accuracy": ("acc", "accuracy", "classaccuracy"),
    "precision": ("precision", "prec", "pre"),
    "recall": ("recall", "rec"),
    "f1": ("f1", "f1score", "fscore", "dice"),
}
#: A measure by its name.
_MEASURE = {word: measure for measure, words in _SPELLINGS.items() for word in words}
#: A mean by its column's name in lower-case letters and digits. A bare "acc" is not there: it may be pixel accuracy.
_MEANS = {
    **{key.replace("_", ""): key for key in SCALARS},
    **{start + word: MEASURES[m] for word, m in _MEASURE.items() for start in ("m", "mean", "macro", "average")},
    **{word: MEASURES[m] for word, m in _MEASURE.items() if m != "accuracy"},
    **dict.fromkeys(("meanclassaccuracy", "mca"), "macc"),
    **dict.fromkeys(("pixacc", "pixelacc", "aacc", "oa", "overallaccuracy"), "pixel_accuracy"),
    **dict.fromkeys(("frequencyweightediou", "fwiu"), "fwiou"),
    **{f"m{word}img": f"image_{MEASURES[m]}" for word, m in _MEASURE.items()},
}
#: `iou:car`, `iou_car`, `IoU.car`, `IoU (car)`.
_OF_CLASS = re.compile(
    r"(iou|jaccard|acc|accuracy|prec|precision|recall|f1|dice)[\s:_/.(\[-]+(\S.*?)[)\]]?", re.IGNORECASE
)
_NO_CLASS = {"sd", "std", "stdev", "se", "ci", "low", "high", "n", "err", "error", "score", "delta"}
_SPREAD = re.compile(r".+[_ ](sd|std|stdev)", re.IGNORECASE)
#: Names of a row that is the mean over classes, and of a column of it.
MEAN_ROWS = {"mean", "average", "avg", "macro", "all", "overall"}
_UNIT = re.compile(r"[(\[]\s*%\s*[)\]]|%|[↑↓]")
_MISSING = {"", "-", "--", "–", "—", "nan", "n/a", "na", "none", "null"}
#: A number, and what may follow it: a spread.
_NUMBER = re.compile(r"(-?[0-9]*[.,]?[0-9]+(?:e[-+]?[0-9]+)?)\s*%?\s*((?:±|\+-|\+/-|\().*)?", re.IGNORECASE)
_DIGITS_SHOWN = 4
#: A score is no greater, whatever its unit; nor is its last digit worth more than 10 to this power.
_LARGEST = Decimal(10**6)
_POWER = 6
#: Characters of a cell: more are no number.
_LONGEST = 200


def plain(name: str) -> str:
    """A column's name in lower-case letters and digits, without its unit."""
    return re.sub(r"[^a-z0-9]", "", _UNIT.sub("", name).lower())


def score_column(name: str) -> tuple[str, str] | None:
    """(class, measure) or ("", scalar) of a column in a table with one row a method; None when it is no score."""
    if plain(name) in _MEANS:
        return "", _MEANS[plain(name)]
    found = _OF_CLASS.fullmatch(_UNIT.sub("", name).strip())
    if found is None or found[2].lower() in _NO_CLASS:
        return None
    measure = _MEASURE[found[1].lower()]
    return ("", MEASURES[measure]) if found[2].lower() in MEAN_ROWS else (found[2], measure)


def class_measure(name: str) -> str | None:
    """The measure of a column in a table with one row a class; None when it is none."""
    return _MEASURE.get(plain(name))


def is_spread(name: str) -> bool:
    """Whether a column holds standard deviations."""
    return _SPREAD.fullmatch(name.strip()) is not None


@dataclass(frozen=True)
class Cell:
    """A number with its printed digits; `spread` when a standard deviation or an interval follows it."""

    number: Decimal
    spread: bool = False

    def score(self, scale: int) -> Score:
        """In percent: `scale` is 100 for fractions."""
        number = self.number * scale
        exponent = self.number.as_tuple().exponent
        half = 0.5 * 10.0 ** int(exponent) * scale
        decimals = -int(number.as_tuple().exponent) - (2 if scale == 100 else 0)
        return Score.of(float(number), half, f"{number:.{min(max(decimals, 0), _DIGITS_SHOWN)}f}")


def read_cell(value: Any, where: str) -> Cell | None:
    """A cell as CSV or JSON (with Decimal) holds it: `66.5`, `66.5 %`, `66.5 ± 0.3`, `**66.5**`; None when it is empty.
    Raises ConfigError with `where`, also for a number that no score can be."""
    cell = _read(value, where)
    if cell is not None and (cell.number.copy_abs() > _LARGEST or int(cell.number.as_tuple().exponent) > _POWER):
        raise ConfigError(f"{where}: {_quoted(value)} is too large for a score", hint="scores are at most 100 (%)")
    return cell


def is_number(value: Any) -> bool:
    """Whether a cell holds a number of any size."""
    try:
        return _read(value, "") is not None
    except ConfigError:
        return False


def _read(value: Any, where: str) -> Cell | None:
    if value is None:
        return None
    text = str(value).strip().strip("*_ $").replace("−", "-").removeprefix("+")
    if text.lower() in _MISSING:
        return None
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or isinstance(value, bool):
        raise ConfigError(f"{where}: {_quoted(value)} is no score", hint="leave a cell empty where there is none")
    try:
        number = Decimal(found[1].replace(",", "."))
    except DecimalException:  # an exponent of 19 digits
        raise ConfigError(
            f"{where}: {_quoted(value)} is beyond all bounds", hint="scores are at most 100 (%)"
        ) from None
    return Cell(number, bool(found[2]))


def _quoted(value: Any) -> str:
    """What a cell holds, on one line."""
    text = " ".join(str(value).split())
    return f"'{text}'" if len(text) <= 60 else f"'{text[:60]}...'"
