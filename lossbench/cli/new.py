"""`lossbench new`: one commented file that already passes its checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from lossbench.cli.arguments import Argument, Option
from lossbench.cli.common import choose
from lossbench.registry import KINDS, Kind


def new(
    what: Annotated[str, Argument(metavar="WHAT", help="loss, backbone or dataset.")],
    name: Annotated[str, Argument(metavar="NAME", help="What suites will call it: letters, digits, _.")],
    to: Annotated[Path, Option("--to", metavar="FOLDER", help="Where to write it.", show_default=False)] = Path("."),
) -> None:
    """Write a loss, a backbone or a dataset to start from.

    One file, NAME.py, that says in comments what the contract is and passes `lossbench check` as it stands. A file
    that is there is never overwritten.

    \b
    Example:
      lossbench new loss my_loss && lossbench check my_loss.py
    """
    from lossbench.templates import next_steps, write

    kind: Kind = choose(what, KINDS, "kind of thing to write")  # type: ignore[assignment]
    file = write(kind, name, to)
    print(file)
    import sys

    sys.stderr.write(next_steps(kind, name, file))
