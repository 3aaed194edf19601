"""`lossbench predict`: label maps of trained cells as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import (
    DEFAULT_RESULTS,
    DataRootOption,
    JsonOption,
    PluginOption,
    ResultsOption,
    choose,
    open_store,
    print_json,
    registries,
    stderr,
    stdout,
    warn,
)
from lossbench.errors import ConfigError, RecordError

if TYPE_CHECKING:
    from lossbench.execution.predict import Predicted
    from lossbench.execution.weights import Weights
    from lossbench.store import Store

FORMATS = ("cityscapes", "png")


def predict(
    runs: Annotated[
        list[str],
        Argument(metavar="RUN...", help="Ids of runs (or their beginnings), run folders, or files of weights."),
    ],
    out: Annotated[
        Path, Option("--out", "-o", metavar="FOLDER", help="Where they go; a folder for each of several runs.")
    ],
    form: Annotated[
        str, Option("--format", metavar="FORM", help="png (train ids) or cityscapes (label ids).", show_default=True)
    ] = "png",
    split: Annotated[
        str | None,
        Option("--split", help="Which images. Default: the split the run was scored on.", show_default=False),
    ] = None,
    device: Annotated[str, Option("--device", help="auto, cpu, mps, or cuda:0.")] = "auto",
    results: ResultsOption = DEFAULT_RESULTS,
    data_root: DataRootOption = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """Write the label maps that trained cells predict, one file an image.

    The weights must have been kept (`lossbench run SUITE --keep weights`). Of an unfinished run nothing is predicted,
    unless its checkpoint is given as a file. png: palette PNGs of train ids, named as
    the images. cityscapes: grey PNGs of the 34 label ids, named so that the official evaluator and the server find
    them; for the server, take --split test and zip the folder.

    \b
    Example:
      lossbench predict 3f2a --format cityscapes --out predictions
    """
    choose(form, FORMATS, "format")
    from lossbench import metrics
    from lossbench.execution import weights as kept
    from lossbench.paths import expand

    out = expand(out)
    store = open_store(results)
    paths = [kept.find(run, store) for run in runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a run is given twice")
    several = len(paths) > 1
    rows: list[dict[str, Any]] = []
    for path in paths:
        weights = kept.read(path)
        cell, step = weights.cell, weights.step
        if step is not None:
            warn(f"{path} is a checkpoint, step {step} of {cell.protocol.iterations}: not the result of run {cell.id}")
        where = out / cell.id if several else out
        predicted = _predict(
            weights, split=split or cell.protocol.eval_split, form=form, out=where, device=device,
            data_root=data_root, plugins=plugin,
        )  # fmt: skip
        if step is None and split in (None, cell.protocol.eval_split):
            _compare(weights, predicted, store)
        rows.append({
            "run": cell.id,
            "name": cell.name,
            "step": step,
            "split": split or cell.protocol.eval_split,
            "images": predicted.images,
            "miou": None if predicted.confusion is None else 100 * metrics.mean_iou(predicted.confusion),
            "folder": str(predicted.folder),
        })  # fmt: skip
    if json:
        print_json(rows)
        return
    for row in rows:
        score = "no labels to score by" if row["miou"] is None else f"mIoU {row['miou']:.2f} %"
        state = "" if row["step"] is None else f" at step {row['step']}"
        stdout().print(
            f"{row['run']} {row['name']}{state}: {row['split']}, {row['images']} images, {score}, {row['folder']}",
            soft_wrap=True,
        )


def _predict(
    weights: Weights,
    *,
    split: str,
    form: str,
    out: Path,
    device: str,
    data_root: Path | None,
    plugins: list[Path] | None,
) -> Predicted:
    from lossbench.cli.prepare import decoding, tell
    from lossbench.data.roots import cache_root
    from lossbench.data.roots import data_root as find_data_root
    from lossbench.execution import devices
    from lossbench.execution.predict import predict_split

    known = registries(plugins)
    for kind, component in weights.cell.components.items():
        if kind != "loss" and component.name not in known[kind] and weights.plugins:
            files = " ".join(f"--plugin {file}" for file in weights.plugins)
            raise ConfigError(
                f"{kind} '{component.name}' of run {weights.cell.id} is in no plugin named here",
                hint=f"files that weights name are not run unasked; if you trust them, add {files}",
            )
    label = weights.cell.dataset.label
    with decoding(f"{label} {split}") as decoded, _progress(f"{label} {split}") as done:
        return predict_split(
            weights,
            known,
            split=split,
            form=form,
            out=out,
            data_root=find_data_root(data_root),
            cache_root=cache_root(),
            device=devices.parse(device)[0],
            on_image=done,
            decoding=decoded,
            say=tell,
        )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    columns = (TextColumn("predicting {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task(what, total=None)

    def progress(done: int, total: int) -> None:
        if done and not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()


def _compare(weights: Weights, predicted: Predicted, store: Store) -> None:
    """Say so when these are not the predictions that the run's record was made of."""
    try:
        record = store.load(weights.cell)
    except RecordError:
        return  # whoever reads the record will be told
    if record is not None and predicted.confusion is not None and (record.confusion != predicted.confusion).any():
        pixels = int(abs(record.confusion - predicted.confusion).sum()) // 2
        warn(
            f"run {weights.cell.id}: {pixels} pixels are counted otherwise in its record: another device, other "
            "versions or other data"
        )
