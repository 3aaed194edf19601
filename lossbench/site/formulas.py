"""The formulas of the losses that come with lossbench, in the notation of their docstrings.

p is the softmax probability, y a pixel's true class, the mean runs over the N labelled pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from lossbench.registry import Plugin
from lossbench.site.mathml import mathml

_MEAN = r"\frac{1}{N} \sum_i"
_U = r"u_i = \frac{1}{T} \sum_t p_{t}^2 - {(\frac{1}{T} \sum_t p_{t})}^2"
_CE = rf"\text{{CE}} = {_MEAN} - \log p_{{y_i}}"
_DF = rf"\text{{DF}} = {_MEAN} - \alpha\, u_i^\gamma \log p_{{y_i}}"

FORMULAS: Mapping[str, tuple[str, ...]] = {
    "ce": (_CE,),
    "ce_control": (_CE,),
    "balanced_ce": (r"L = \frac{\sum_i - w_{y_i} \log p_{y_i}}{\sum_i w_{y_i}} , \;\; w_c = \frac{N - N_c}{N}",),
    "focal": (rf"L = {_MEAN} - \alpha_{{y_i}} {{(1 - p_{{y_i}})}}^\gamma \log p_{{y_i}}",),
    "df": (_DF, _U),
    "cdfl": (r"L = \text{CE} + \omega\, \text{DF}", _CE, _DF, _U),
    "uce": (rf"L = {_MEAN} - {{(1 + \sigma_i)}}^\alpha \log p_{{y_i}}",),
    "lovasz_softmax": (
        r"L = \frac{1}{|C|} \sum_{c \in C} \hat{\Delta_{J_c}} (m(c)) , \;\; "
        r"m_i(c) = \text{1~-~}p_i(c) \;\text{where}\; y_i = c , \; p_i(c) \;\text{elsewhere}",
    ),
    "sum": (r"L = \sum_k w_k L_k",),
}


def formulas_of(plugin: Plugin | None) -> list[Markup]:
    """Those of a plugin that comes with lossbench; a user's own of the same name is another loss."""
    if plugin is None or plugin.module != f"lossbench.losses.{plugin.name}":
        return []
    return [mathml(source) for source in FORMULAS.get(plugin.name, ())]
