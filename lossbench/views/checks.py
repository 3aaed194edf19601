"""Verdicts of conformance rules, and the card of a loss, for a terminal of 80 columns and for a file."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from lossbench.views.terminal import safe

if TYPE_CHECKING:
    from lossbench.conformance.losses.card import LossCard, Precision
    from lossbench.conformance.losses.cost import Cost
    from lossbench.conformance.report import Result

_WIDEST = 140
#: From this width on, a line has room for what was expected.
_WIDE = 110


def render_results(results: Sequence[Result], console: Console, *, verbose: bool = False) -> None:
    """A line for each rule, then every failure in full (with `verbose`: every rule)."""
    width = min(console.width, _WIDEST)
    column = max(len(result.rule) for result in results)
    room = width - column - 8
    shares = {"fed": 0.35, "got": 0.3, "expected": 0.35} if width >= _WIDE else {"fed": 0.5, "got": 0.5}
    widths = {what: int(room * share) - 1 for what, share in shares.items()}
    titles = " ".join(f"{what:<{wide}}" for what, wide in widths.items()).rstrip()
    console.print(Text(f"{'rule':<{column}}        {titles}", style="bold"), soft_wrap=True)
    for result in results:
        said = _said(result, widths, console)
        line = Text.assemble(f"{result.rule:<{column}}  ", (f"{_verdict(result):<4}", _style(result)), f"  {said}")
        console.print(line, soft_wrap=True)
    for result in results:
        cut = result.skipped_reason is not None and len(result.skipped_reason) > room - 1
        if verbose or cut or not result.ok:
            _print_in_full(result, console, width)


def _said(result: Result, widths: Mapping[str, int], console: Console) -> str:
    if result.skipped_reason is not None:
        return _cut(safe(result.skipped_reason, console), sum(widths.values()))
    parts = [f"{_cut(safe(getattr(result, what), console), wide):<{wide}}" for what, wide in widths.items()]
    return " ".join(parts).rstrip()


def _verdict(result: Result) -> str:
    return "FAIL" if not result.ok else "ok" if result.skipped_reason is None else "skip"


def _style(result: Result) -> str:
    return {"FAIL": "bold red", "ok": "green", "skip": "yellow"}[_verdict(result)]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


def _print_in_full(result: Result, console: Console, width: int) -> None:
    console.print()
    console.print(Text.assemble((_verdict(result), _style(result)), f" {result.rule}"), soft_wrap=True)
    lines = [("fed", result.fed), ("got", result.got), ("expected", result.expected)]
    if result.skipped_reason is not None:
        lines = [("reason", result.skipped_reason)]
    for label, text in lines:
        _paragraph(f"  {label + ':':<10}", text, console, width)


def _paragraph(label: str, text: str, console: Console, width: int) -> None:
    wrapped = textwrap.wrap(text, width - len(label), break_on_hyphens=False) or [""]
    for number, line in enumerate(wrapped):
        said = safe((label if number == 0 else " " * len(label)) + line, console)
        console.print(Text(said), soft_wrap=True)


# --- the card ---


def render_card(card: LossCard, console: Console) -> None:
    """What the loss is like beside cross-entropy."""
    width = min(console.width, _WIDEST)

    def lines(*texts: str) -> None:
        for text in texts:
            console.print(Text(safe(text, console)), soft_wrap=True)

    if card.standing:
        lines(f"{'on logits of':<24}{'value':>9}{'CE':>9}{'gradient':>11}{'on rare classes':>18}")
        for row in card.standing:
            rare = f"{100 * row.rare:.1f} % ({100 * row.ce_rare:.1f})"
            lines(f"{row.logits:<24}{row.value:>9.4g}{row.ce:>9.4g}{row.gradient:>9.3g} x{rare:>18}")
        _paragraph(
            "  ",
            "The network: fcn_timm on streets, before and after 120 steps of cross-entropy; one training batch. "
            "gradient: norm with respect to the logits, as a multiple of CE's. on rare classes: share of the gradient "
            "at pixels of the four rarest of 12 classes, and that of CE's.",
            console,
            width,
        )
    if card.note:
        _paragraph("  not measured on streets: ", card.note, console, width)
    if card.costs:
        lines("", f"{'forward + backward':<28}{'logits':<16}{'ms':>8}{'x CE':>7}{'quartiles':>13}{'memory':>8}")
        for cost in card.costs:
            lines(_cost(cost))
        _paragraph("  ", _cost_note(card.costs[0]), console, width)
    lines("")
    _paragraph("needs         ", _needs(card), console, width)
    if card.absent:
        _paragraph("absent class  ", _absent(card.absent), console, width)
    _paragraph("dtypes        ", "; ".join(map(_precision, card.precision)), console, width)
    for rule, reason in card.exceptions.items():
        _paragraph("exception     ", f"{rule}: {reason}", console, width)


def _cost(cost: Cost) -> str:
    logits = "x".join(map(str, cost.shape))
    quartiles = f"{cost.ratio_low:.2f}-{cost.ratio_high:.2f}"
    memory = "-" if cost.memory is None or not cost.ce_memory else f"{cost.memory / cost.ce_memory:.2f} x"
    return f"{cost.name:<28}{logits:<16}{cost.ms:>8.1f}{cost.ratio:>7.2f}{quartiles:>13}{memory:>8}"


def _cost_note(cost: Cost) -> str:
    given = f", its {cost.passes} stochastic passes given ready-made" if cost.passes else ""
    return (
        f"CPU, float32{given}. x CE: ratio to F.cross_entropy within a round, median of {cost.rounds} rounds or "
        "fewer. memory: peak beyond the inputs, gradient included, as a multiple of F.cross_entropy's."
    )


def _needs(card: LossCard) -> str:
    needs = []
    if "class_counts" in card.facts:
        needs.append("class counts of the training set")
    if card.passes:
        kept = " with gradients" if card.resample_with_grad else ""
        needs.append(f"{card.passes} Monte-Carlo passes a step{kept}")
    if card.state:
        needs.append(f"its state in checkpoints ({', '.join(card.state)})")
    return ", ".join(needs) or "logits and labels, nothing else"


def _absent(absent: dict[str, float]) -> str:
    perfect, gradient = absent["perfect"], absent["gradient"]
    free = "costs nothing in a perfect batch" if perfect <= 1e-6 else f"costs {perfect:.3g} in a perfect batch"
    return f"{free}; where predicted, it is pushed down {gradient:.2g} x as hard as by CE"


def _precision(found: Precision) -> str:
    if found.error or found.value is None or found.gradient is None:
        return f"{found.dtype} fails ({found.error})"
    return f"{found.dtype} off by {_size(found.value)} in value, {_size(found.gradient)} in gradient"


def _size(error: float) -> str:
    return f"{error:.0e}" if error else "0"
