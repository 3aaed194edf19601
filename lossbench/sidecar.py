"""The sidecar of a record: per-image counts (n_images, C, 3) int32 and image names, in a compressed .npz."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossbench import files
from lossbench.errors import RecordError
from lossbench.metrics import counts_of
from lossbench.records import Record
from lossbench.runtable import RunTable

#: Bytes that counts or names may take: 2000 images of 10 000 classes.
MOST_BYTES = 2**28
#: Bytes in which the header of an array must end.
_MOST_HEADER = 2**14


def sidecar_bytes(record: Record, per_image: NDArray[Any], image_names: Sequence[str]) -> bytes:
    """A compressed .npz that numpy reads, with fixed times inside: the same counts are the same bytes."""
    classes = len(record.class_names)
    if per_image.shape != (len(image_names), classes, 3):
        raise RecordError(
            f"per-image counts of shape {per_image.shape} for {len(image_names)} images and {classes} classes"
        )
    if not np.array_equal(per_image.sum(axis=0, dtype=np.int64), counts_of(record.confusion)):
        raise RecordError("the per-image counts do not sum to the confusion matrix")
    if per_image.size and int(per_image.max()) > np.iinfo(np.int32).max:
        raise RecordError("an image of more than 2^31 pixels does not fit the per-image counts")
    names = np.asarray([str(name) for name in image_names], dtype=np.str_)
    if max(4 * per_image.size, names.nbytes) > MOST_BYTES - 2**16:  # less a header
        raise RecordError(f"per-image counts of {len(image_names)} images and {classes} classes are too many to keep")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, array in (("counts", per_image.astype(np.int32)), ("names", names)):
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{member}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(info, content.getvalue(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def read_sidecar(path: Path, record: Record) -> tuple[NDArray[np.int32], list[str]]:
    """Counts (n_images, C, 3) and image names of a record's sidecar.

    Raises RecordError when the file is missing, damaged, or belongs to another run of the cell.
    """
    return _read_sidecar(path, counts_of(record.confusion))


def load_sidecar(path: Path) -> tuple[NDArray[np.int32], list[str]]:
    """Counts and image names as the file holds them, whatever they sum to. Raises RecordError when it is missing or
    damaged."""
    try:
        return parse_sidecar(files.read(path))
    except OSError as error:
        raise RecordError(f"{path}: unreadable per-image counts ({error.strerror or error})") from None
    except RecordError as error:
        raise RecordError(f"{path}: {error.message}") from None


def parse_sidecar(content: bytes, *, alone: bool = False) -> tuple[NDArray[np.int32], list[str]]:
    """Counts and image names in the bytes of a sidecar, of whatever origin: nothing in it is executed, and it takes no
    more memory than MOST_BYTES. Raises RecordError.

    Args:
        alone: there must be nothing else in it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if alone and sorted(archive.namelist()) != ["counts.npy", "names.npy"]:
                raise ValueError("other things beside them")
            counts, names = _member(archive, "counts"), _member(archive, "names")
        if names.ndim != 1 or names.dtype.kind != "U":
            raise ValueError(f"names of type {names.dtype} and shape {names.shape}")
        return counts, names.tolist()
    except Exception as error:  # zipfile, its decompressors and numpy each have their own for bytes that make no sense
        raise RecordError(f"unreadable per-image counts ({error})") from None


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array of an .npz, without pickles. What it says of its size is believed only as far as there are bytes."""
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > MOST_BYTES or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} of {info.file_size} bytes")
    with archive.open(info) as file:
        content = file.read(info.file_size + 1)
    # A version, then the length of the header: numpy.lib.format. It is the same for many files.
    stop = 10 + int.from_bytes(content[8:10], "little") if content[6:7] == b"\1" else _MOST_HEADER
    shape, fortran, dtype, start = _header(content[: min(stop, _MOST_HEADER)])
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"{name} of type {dtype} and shape {shape} in {len(content)} bytes")
    flat = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


@lru_cache(maxsize=64)
def _header(content: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, order and type of an array, and where its values begin."""
    stream = io.BytesIO(content)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = read[np.lib.format.read_magic(stream)](stream)
    return shape, fortran, dtype, stream.tell()


def _read_sidecar(path: Path, total: NDArray[np.int64]) -> tuple[NDArray[np.int32], list[str]]:
    counts, names = load_sidecar(path)
    if counts.ndim != 3 or not np.array_equal(counts.sum(axis=0, dtype=np.int64), total):
        raise RecordError(f"{path}: per-image counts of another run")
    return counts, names


def per_image_counts(table: RunTable, row: int) -> NDArray[np.int32] | None:
    """TP, FP, FN (n_images, C, 3) of the sidecar of a row of a table; None when there is none to trust."""
    try:
        return _read_sidecar(table.path(row).with_suffix(".npz"), table.counts_of(np.array([row]))[0])[0]
    except RecordError:
        return None
