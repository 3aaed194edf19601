"""Seeds: one integer derived from each purpose, so that no two random streams share one."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch

from lossbench.cells import canonical_json


def derive_seed(*parts: str | int | float | bool | None) -> int:
    """A 63-bit seed that depends on every part, on their order and types, and on nothing else: not on the process,
    the platform or Python's hash seed. `derive_seed(0, "crop", 3)`.

    The first 63 bits of the SHA-256 of the parts' canonical JSON. Raises ValueError at NaN or infinity.
    """
    digest = hashlib.sha256(canonical_json(list(parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy (its low 32 bits) and torch (CPU and all accelerators)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator is what libraries draw from
    torch.manual_seed(seed)
