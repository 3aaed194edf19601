"""What every registered dataset must pass."""

from __future__ import annotations

from lossbench.conformance.datasets.rules import RULES as RULES
