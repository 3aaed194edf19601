"""Work of a known size."""

from collections.abc import Callable


def temporary(mib: str) -> Callable[[], int]:
    """Fills and frees that many MiB."""
    return lambda: len(b"x" * (int(mib) << 20))
