"""The one tree of errors a user may see.

Every error carries an exit code and an optional hint; the CLI prints `error: message` and `hint: ...`,
never a traceback (unless `--debug`). Raise these for a user's mistakes; let bugs be bugs.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class LossbenchError(Exception):
    """Base class. `exit_code` 1: some cells failed."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(LossbenchError):
    """The user's suite, plugin or command line is wrong (exit 2)."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name no plugin, suite, dataset, class or parameter has."""


class ParameterError(ConfigError):
    """A hyper-parameter is unknown, missing or of the wrong type.

    `path` leads from the parameter to the place inside its value, e.g. (1, "gamma"); empty for the value as a whole.
    """

    def __init__(
        self, message: str, *, parameter: str, hint: str | None = None, path: tuple[str | int, ...] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter
        self.path = path


class SetupError(LossbenchError):
    """The machine lacks something: a data root, a writable folder, network, a GPU (exit 3)."""

    exit_code = 3


class DataError(SetupError):
    """Data on disk is missing or is not what it must be: layout, sizes, ids, unreadable files (exit 3)."""


class RecordError(LossbenchError):
    """A record file is truncated, invalid or of a newer schema. Readers skip it with a warning."""


#: What to do about a results folder that cannot be written.
UNWRITABLE_HINT = "free some space, or choose another results directory with --results"
#: What the system says of a disk that is full, over quota, read-only, of somebody else, or broken.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE})


def disk_error(error: BaseException) -> SetupError | None:
    """The SetupError of an OSError that says a disk cannot be written; None for any other."""
    if not isinstance(error, OSError) or error.errno not in _DISK:
        return None
    what = f" {error.filename}" if error.filename else ""
    return SetupError(f"cannot write{what}: {error.strerror}", hint=UNWRITABLE_HINT)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint `did you mean 'x'?`, or None when nothing is near.

    A name that begins with all that was written (three letters at least) is nearer than any other: 'lovasz' means
    'lovasz_softmax', not 'ce_lovasz'.
    """
    names = list(known)
    longer = sorted((other for other in names if len(name) >= 3 and other.startswith(name)), key=len)
    close = longer[:1] or difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else None
