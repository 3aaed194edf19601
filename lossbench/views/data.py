"""CSV and JSON for machines: full precision, every column, the same percent as the tables."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lossbench.standings import COLUMNS, Block, Row
from lossbench.statistics import Description

if TYPE_CHECKING:
    from lossbench.published import PublishedTable

_DERIVED = ("delta", "time_ratio", "ms_per_step", "peak_memory_mb", "extra_forwards")
#: Columns that are a mean over seeds.
SCORES = tuple(key for key in COLUMNS if key not in _DERIVED)


def render_csv(
    blocks: Sequence[Block], *, per_class: bool = False, published: Sequence[PublishedTable] | None = None
) -> str:
    """One line per row. Scores in percent as `miou` and `miou_sd`; with `per_class` also `iou:<class>`.

    `published`, unless None, adds the columns `published` (empty for measured rows) and `source`, and its rows.
    """
    lines = []
    for block in blocks:
        for row in block.rows:
            line: dict[str, Any] = {
                "dataset": block.dataset,
                "backbone": block.backbone,
                "variant": block.variant,
                **({"track": block.track} if block.track else {}),
                "loss": row.label,
                "n": row.n,
                "seeds": " ".join(map(str, row.seeds)),
                "diverged": row.diverged,
                "stale": row.stale,
            }
            for key in SCORES:
                spread = row.describe(key)
                line |= {key: spread.mean, f"{key}_sd": spread.sd}
            line |= {"reference": block.reference if block.has_reference else ""}
            line |= {f"delta{suffix}": value for suffix, value in _delta(row).items()}
            if block.margin is not None:
                from lossbench.views import equivalence

                line |= equivalence.csv_fields(row)
            if block.test is not None or block.resamples is not None:
                from lossbench.views import significance

                line |= significance.csv_fields(block, row)
            if row.tuning is not None:
                from lossbench.tuning.space import shown

                gain = None if row.tuning.gain is None else row.tuning.gain.mean
                line |= {"chosen": shown(row.tuning.setting), "gain": gain, "at_edge": "; ".join(row.tuning.edges)}
            line |= {key: row.value(key) for key in _DERIVED[1:]}
            if per_class:
                line |= {f"iou:{name}": row.class_iou(name).mean for name in block.class_names}
            lines.append(line)
    if published is not None:
        from lossbench.views.published import csv_rows

        lines = [line | {"published": "", "source": ""} for line in lines] + csv_rows(published)
    return csv_text(lines)


def _delta(row: Row) -> dict[str, Any]:
    if row.delta is None:
        return {"": None, "_sd": None, "_low": None, "_high": None, "_n": None}
    low, high = row.delta.interval or (None, None)
    return {"": row.delta.mean, "_sd": row.delta.sd, "_low": low, "_high": high, "_n": row.delta.n}


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of possibly different keys as CSV: the union of the keys as header, empty where there is no value."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def render_json(
    blocks: Sequence[Block], warnings: Sequence[str] = (), published: Sequence[PublishedTable] | None = None
) -> str:
    """Everything, as one object: `unit`, `blocks` (each with its `rows`), `warnings`; with `published`, unless None,
    a list of that name apart from the blocks. Undefined values are null."""
    board = {"unit": "percent", "blocks": [_block(block) for block in blocks], "warnings": list(warnings)}
    if published is not None:
        from lossbench.views.published import json_tables

        board["published"] = json_tables(published)
    return json_text(board)


def json_text(value: Any) -> str:
    """Indented JSON in which NaN is null and a Decimal is a number of its own digits."""
    mark = uuid4().hex  # json.dumps writes no number as it is told: a marked text, stripped of its quotes afterwards

    def marked(number: Any) -> str:
        if not isinstance(number, Decimal):
            raise TypeError(f"{type(number).__name__} has no place in JSON")
        return f"{mark}{number}"

    text = json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False, default=marked)
    return re.sub(f'"{mark}([^"]*)"', r"\1", text) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, float | Decimal):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _block(block: Block) -> dict[str, Any]:
    made: dict[str, Any] = {
        "dataset": block.dataset,
        "backbone": block.backbone,
        "variant": block.variant,
        **({"track": block.track} if block.track else {}),
        "protocol": dict(block.protocol),
        "absent_class_rule": block.absent_class_rule,
        "reference": block.reference if block.has_reference else None,
        "sorted_by": block.sort,
        "class_names": block.class_names,
        "train_pixels": block.train_pixels,
        "rows": [_row(row, block) for row in block.rows],
        "notes": block.notes,
    }
    if block.margin is not None:
        from lossbench.views import equivalence

        made["tests"] = equivalence.json_block(block)
        for row, line in zip(block.rows, made["rows"], strict=True):
            line["tested"] = equivalence.json_row(row)
    if block.test is not None or block.resamples is not None:
        from lossbench.views import significance

        for row, line in zip(block.rows, made["rows"], strict=True):
            line |= significance.json_fields(block, row)
    return made


def _row(row: Row, block: Block) -> dict[str, Any]:
    return {
        "loss": row.label,
        "name": row.loss["name"],
        "params": dict(row.loss["params"]),
        "n": row.n,
        "seeds": row.seeds,
        "ids": row.runs.ids,
        "diverged": row.diverged,
        "stale": row.stale,
        "stale_reasons": sorted({reason for part in row.runs.parts for reason in part.stale}),
        "scores": {key: _described(row.describe(key)) for key in SCORES},
        "iou": {name: _described(row.class_iou(name)) for name in block.class_names},
        "delta": {key.strip("_") or "mean": value for key, value in _delta(row).items()} if row.delta else None,
        "time_ratio": row.time_ratio,
        **{key: row.value(key) for key in _DERIVED[2:]},
        **({} if row.tuning is None else {"tuning": row.tuning.to_json()}),
    }


def _described(spread: Description) -> dict[str, Any]:
    return {"mean": spread.mean, "sd": spread.sd}
