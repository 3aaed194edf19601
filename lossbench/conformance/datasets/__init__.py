"""What every registered dataset must pass."""

from __future__ import annotations

from lossbench.conformance.datasets.caching import CACHING_RULES
from lossbench.conformance.datasets.content import CONTENT_RULES
from lossbench.conformance.report import Rule

#: In the order of a report.
RULES: tuple[Rule, ...] = (*CONTENT_RULES, *CACHING_RULES)
#: What training, the cache and records rely on.
NO_EXCEPTIONS = frozenset({"contract", "names", "pairs", "determinism", "fingerprint", "counts"})
