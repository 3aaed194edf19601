"""What every registered backbone must pass."""

from __future__ import annotations

from lossbench.conformance.backbones.network import NETWORK_RULES
from lossbench.conformance.backbones.passes import PASSES_RULES
from lossbench.conformance.report import Rule

#: In the order of a report.
RULES: tuple[Rule, ...] = (*NETWORK_RULES, *PASSES_RULES)
#: What training, checkpoints and records rely on.
NO_EXCEPTIONS = frozenset({"contract", "output_size", "state", "determinism", "cut"})
