"""A weighted sum of registered losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor, nn

from lossbench.errors import ConfigError, ParameterError
from lossbench.losses._moments import Resample
from lossbench.losses._pixel import check_number
from lossbench.registry import LossTerm, register_loss


@register_loss("sum")
class SumLoss(nn.Module):
    """Weighted sum of registered losses: sum_k weight_k loss_k.

    In a suite: {name: sum, terms: [{name: ce, weight: 0.8}, {name: lovasz_softmax, weight: 0.2}]}, each term with its
    loss's own parameters beside the name; a weight not given is 1. In Python:
    SumLoss(terms=[LossTerm(CrossEntropyLoss(), 0.8), LossTerm(LovaszSoftmaxLoss(), 0.2)]).

    Source: common practice; CE with Dice in nnU-Net (Isensee et al. 2021), CE with Lovász for training from scratch
    (Berman et al. 2018).

    Region losses such as Lovász or Dice train badly from scratch at cross-entropy's learning rate; with cross-entropy
    beside them they do. Trap: the terms differ in scale, and a weight scales the learning rate with it.

    Args:
        terms: at least one; a weight is finite and at least 0. A term with the weight 0 is computed all the same.
        ignore_index: label of pixels that count for nothing; the terms must have the same.

    Shapes: logits (N, C, H, W) floating, target (N, H, W) int64 -> scalar, float32 or wider.

    Attributes:
        extra_forwards: the sum over the terms: each makes passes of its own.
        resample_with_grad: whether any term records gradients through `resample`.
        conformance_exceptions: those of the terms.
        diagnostics: of the last call: each term's value without its weight, by name, and the terms' own diagnostics
            as `name.diagnostic`. A name that occurs twice is numbered: `focal_1`, `focal_2`.

    Raises:
        ParameterError: no term, or a weight out of range.
        ConfigError: a term with another ignore_index, or a control (see `ce_control`); whatever the terms raise.
    """

    def __init__(self, *, terms: list[LossTerm], ignore_index: int = 255) -> None:
        super().__init__()
        if not terms:
            raise ParameterError("sum: terms must hold at least one loss", parameter="terms")
        terms = [LossTerm(*term) for term in terms]
        for term in terms:
            check_number("sum", f"the weight of {term.name or type(term.loss).__name__}", term.weight)
            if getattr(term.loss, "plain_passes", False) or getattr(term.loss, "random_shift", ()):
                raise ConfigError(
                    f"sum: {term.name or type(term.loss).__name__} changes a whole run, it cannot be a term"
                )
            own = getattr(term.loss, "ignore_index", ignore_index)
            if own != ignore_index:
                raise ConfigError(
                    f"sum: ignore_index is {ignore_index}, but that of {type(term.loss).__name__} is {own}"
                )
        self.ignore_index = ignore_index
        self.losses = nn.ModuleList([term.loss for term in terms])
        self.weights = [float(term.weight) for term in terms]
        self.names = _distinct([term.name or type(term.loss).__name__ for term in terms])
        #: See `lossbench.losses`: optional parts of a loss's contract.
        self.extra_forwards = sum(_passes(loss) for loss in self.losses)
        self.resample_with_grad = any(getattr(loss, "resample_with_grad", False) for loss in self.losses)
        self.conformance_exceptions = {
            rule: f"{name}: {reason}"
            for name, loss in zip(self.names, self.losses, strict=True)
            for rule, reason in getattr(loss, "conformance_exceptions", {}).items()
        }
        self.diagnostics: dict[str, Tensor] = {}

    def forward(self, logits: Tensor, target: Tensor, resample: Resample | None = None) -> Tensor:
        total: Tensor | None = None
        self.diagnostics = {}
        for name, weight, loss in self._terms():
            value = loss(logits, target, resample) if _passes(loss) else loss(logits, target)
            self.diagnostics[name] = value.detach()
            for key, item in getattr(loss, "diagnostics", {}).items():
                self.diagnostics[f"{name}.{key}"] = item
            part = weight * value
            total = part if total is None else total + part
        assert total is not None
        return total

    def diagnose(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the terms' own `diagnose` say, as `name.diagnostic`."""
        told: dict[str, Tensor] = {}
        for name, _, loss in self._terms():
            diagnose = getattr(loss, "diagnose", None)
            if diagnose is not None:
                told |= {f"{name}.{key}": value for key, value in diagnose(logits, target).items()}
        return told

    def _terms(self) -> Iterator[tuple[str, float, nn.Module]]:
        return zip(self.names, self.weights, self.losses, strict=True)

    def extra_repr(self) -> str:
        return " + ".join(f"{weight:g} {name}" for name, weight, _ in self._terms())


def _passes(loss: nn.Module) -> int:
    return int(getattr(loss, "extra_forwards", 0))


def _distinct(names: list[str]) -> list[str]:
    """The names, those that occur more than once numbered."""
    total, seen = Counter(names), Counter[str]()
    distinct = []
    for name in names:
        seen[name] += 1
        distinct.append(f"{name}_{seen[name]}" if total[name] > 1 else name)
    return distinct
