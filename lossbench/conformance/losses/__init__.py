"""What every registered loss must pass."""

from __future__ import annotations

from lossbench.conformance.losses.behaviour import BEHAVIOUR_RULES
from lossbench.conformance.losses.invariance import INVARIANCE_RULES
from lossbench.conformance.losses.values import VALUE_RULES
from lossbench.conformance.report import Rule

#: In the order of a report.
RULES: tuple[Rule, ...] = (*VALUE_RULES, *INVARIANCE_RULES, *BEHAVIOUR_RULES)
#: What training, checkpoints and records rely on. The others are properties of most losses, not of all.
NO_EXCEPTIONS = frozenset(
    {
        "contract",
        "scalar_finite",
        "ignore",
        "all_ignored",
        "absent_class",
        "purity",
        "determinism",
        "state",
        "resample",
        "diagnostics",
    }
)
