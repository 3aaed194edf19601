"""The formulas of the losses that come with lossbench, in the notation of their docstrings.

p is the softmax probability, y a pixel's true class, the mean runs over the N labelled pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from lossbench.registry import Plugin
from lossbench.site.mathml import mathml

# I_c, P_c, G_c: sums of p_c over the pixels of class c, of p_c over all pixels, pixels of class c; C: classes present.
_MEAN = r"\frac{1}{N} \sum_i"
_U = r"u_i = \frac{1}{T} \sum_t p_{t}^2 - {(\frac{1}{T} \sum_t p_{t})}^2"
_CE = rf"\text{{CE}} = {_MEAN} - \log p_{{y_i}}"
_DF = rf"\text{{DF}} = {_MEAN} - \alpha\, u_i^\gamma \log p_{{y_i}}"

_DICE = r"\text{Dice} = \frac{1}{|C|} \sum_{c \in C} (1 - \frac{2 I_c}{P_c + G_c})"
_OVERLAP = r"L = \frac{{1}}{{|C|}} \sum_{{c \in C}} (1 - {})"
_TVERSKY = r"\frac{I_c}{I_c + \alpha (P_c - I_c) + \beta (G_c - I_c)}"
_ADJUSTED = rf"L = {_MEAN} - \log \frac{{\pi_{{y_i}}^\tau e^{{z_{{y_i}}}}}}{{\sum_c \pi_c^\tau e^{{z_c}}}}"

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
    "ce_dice": (r"L = w_1 \text{CE} + w_2 \text{Dice}", _CE, _DICE),
    "ce_lovasz": (r"L = w_1 \text{CE} + w_2 \text{Lovász}", _CE),
    "dice_focal": (r"L = w_1 \text{Dice} + w_2 \text{focal}", _DICE),
    "weighted_ce": (
        r"L = \frac{\sum_i - w_{y_i} \log p_{y_i}}{\sum_i w_{y_i}} , \;\; w_c = \frac{\text{median}(\pi)}{\pi_c} , \; "
        r"\frac{1}{\pi_c} , \; \frac{1}{\sqrt{\pi_c}} \;\text{or}\; \frac{1}{\log (1.02 + \pi_c)}",
    ),
    "class_balanced": (
        rf"L = {_MEAN} - w_{{y_i}} {{(1 - p_{{y_i}})}}^\gamma \log p_{{y_i}} , \;\; "
        r"w_c \;\text{as}\; \frac{1 - \beta}{1 - \beta^{n_c}}",
    ),
    "logit_adjusted": (_ADJUSTED,),
    "balanced_softmax": (_ADJUSTED.replace(r"\pi_{y_i}^\tau", "n_{y_i}").replace(r"\pi_c^\tau", "n_c"),),
    "ldam": (
        rf"L = {_MEAN} - \log \frac{{e^{{s (z_{{y_i}} - \Delta_{{y_i}})}}}}"
        r"{e^{s (z_{y_i} - \Delta_{y_i})} + \sum_{c \ne y_i} e^{s z_c}} , \;\; "
        r"\Delta_c = m {(\frac{\min n}{n_c})}^{1/4}",
    ),
    "seesaw": (
        rf"L = {_MEAN} - \log \frac{{e^{{z_{{y_i}}}}}}"
        r"{e^{z_{y_i}} + \sum_{j \ne y_i} M_{y_i j} C_{y_i j} e^{z_j}}",
        r"M_{yj} = {\min (1, \frac{N_j}{N_y})}^p , \;\; C_{yj} = {\max (1, \frac{p_j}{p_y})}^q",
    ),
    "recall_ce": (rf"L = {_MEAN} - (1 - R_{{y_i}}) \log p_{{y_i}}",),
    "poly1": (rf"L = {_MEAN} (- \log p_{{y_i}} + \varepsilon (1 - p_{{y_i}}))",),
    "ohem_ce": (r"L = \frac{1}{|K|} \sum_{i \in K} - \log p_{y_i} , \;\; i \in K \;\text{if}\; p_{y_i} < t",),
    "topk_ce": (
        r"L = \frac{1}{|K|} \sum_{i \in K} - \log p_{y_i} , \;\; K = \text{the~hardest}\; k \;\text{per~cent}",
    ),
    "dice": (_DICE,),
    "generalised_dice": (r"L = 1 - \frac{2 \sum_c w_c I_c}{\sum_c w_c (P_c + G_c)} , \;\; w_c = \frac{1}{G_c^2}",),
    "jaccard": (_OVERLAP.format(r"\frac{I_c}{P_c + G_c - I_c}"),),
    "tversky": (_OVERLAP.format(_TVERSKY),),
    "focal_tversky": (rf"L = \frac{{1}}{{|C|}} \sum_{{c \in C}} {{(1 - {_TVERSKY})}}^{{1/\gamma}}",),
    "unified_focal": (
        r"L = \lambda F + (1 - \lambda) T",
        rf"F = {_MEAN} - \delta \log p_{{y_i}} \;\text{{where~rare}}, \; "
        r"- (1 - \delta) {(1 - p_{y_i})}^\gamma \log p_{y_i} \;\text{elsewhere}",
        r"T = \frac{1}{|C|} \sum_{c \in C} {(1 - \text{TI}_c)}^{1 - \gamma} \;\text{if~rare}, \; "
        r"1 - \text{TI}_c \;\text{else}",
        r"\text{TI}_c = \frac{I_c}{I_c + \delta (G_c - I_c) + (1 - \delta) (P_c - I_c)}",
    ),
    "rmi": (
        r"L = \lambda \text{BCE} + (1 - \lambda) \text{RMI} , \;\; "
        r"\text{RMI} = \frac{1}{2 d} \sum_c \log \det (\Sigma_Y - \Sigma_{YP} \Sigma_P^{-1} \Sigma_{PY})",
    ),
    "boundary": (rf"L = \text{{base}} + \alpha_t {_MEAN} \sum_c \phi_{{i c}} p_{{i c}}",),
}


def formulas_of(plugin: Plugin | None) -> list[Markup]:
    """Those of a plugin that comes with lossbench; a user's own of the same name is another loss."""
    if plugin is None or plugin.module != f"lossbench.losses.{plugin.name}":
        return []
    return [mathml(source) for source in FORMULAS.get(plugin.name, ())]
