"""Stateless random numbers: a generator per purpose and number, so that any sample can be drawn on its own."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(*parts: str | int) -> np.random.Generator:
    """A Philox generator whose 128-bit key is the SHA-256 of `parts`: equal parts, equal stream, on any machine."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
