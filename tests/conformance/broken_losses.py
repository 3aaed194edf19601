"""Losses with one fault each, seen in the wild or close to it: every rule of the conformance must be able to fail.

A plugin file as a user would write one; loaded by path.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossbench.registry import register_loss


def nll(logits: Tensor, target: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """A sound start: (-log p_y with 0 at ignored pixels, valid), both (N, H, W)."""
    valid = target != ignore_index
    safe = logits.float() if logits.dtype != torch.float64 else logits
    safe = safe.masked_fill(~valid[:, None], 0.0)
    return functional.cross_entropy(safe, target.masked_fill(~valid, 0), reduction="none") * valid, valid


class Base(nn.Module):
    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def pixels(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return nll(logits, target, self.ignore_index)

    def mean(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        return losses.sum() / valid.sum().clamp(min=1)


@register_loss("sound")
class Sound(Base):
    """Nothing wrong: shows that the scaffold of the others is not what fails."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mean(logits, target)


@register_loss("undocumented")
class Undocumented(Base):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mean(logits, target)


@register_loss("without_ignore_index")
class WithoutIgnoreIndex(nn.Module):
    """Takes no ignore_index."""

    def __init__(self, *, gamma: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, ignore_index=255)


@register_loss("odd_arguments")
class OddArguments(Base):
    """Wants the images too."""

    def forward(self, logits: Tensor, target: Tensor, images: Tensor | None = None) -> Tensor:
        return self.mean(logits, target)


@register_loss("vector")
class Vector(Base):
    """Returns a loss per pixel."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.pixels(logits, target)[0]


@register_loss("python_number")
class PythonNumber(Base):
    """Returns a float."""

    def forward(self, logits: Tensor, target: Tensor) -> float:
        return self.mean(logits, target).item()


@register_loss("log_of_softmax")
class LogOfSoftmax(Base):
    """log(softmax) underflows."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        log_p = logits.float().softmax(1).log().gather(1, target.masked_fill(~valid, 0)[:, None])[:, 0]
        return -log_p.masked_fill(~valid, 0).sum() / valid.sum().clamp(min=1)


@register_loss("leaks_ignored")
class LeaksIgnored(Base):
    """Counts ignored pixels as class 0."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits.double(), target.masked_fill(target == self.ignore_index, 0))


@register_loss("torch_ce")
class TorchCE(Base):
    """torch's own: NaN gradients from NaN at ignored pixels, NaN for a batch of void."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(logits, target, ignore_index=self.ignore_index)


@register_loss("averages_over_ignored")
class AveragesOverIgnored(Base):
    """Ignored pixels in the denominator."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.pixels(logits, target)[0].mean()


@register_loss("fixed_ignore_index")
class FixedIgnoreIndex(Base):
    """Takes ignore_index and does not use it."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = nll(logits, target, 255)
        return losses.sum() / valid.sum().clamp(min=1)


@register_loss("inverse_frequency")
class InverseFrequency(Base):
    """Divides by the pixels of a class, which may be none."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        per_class = [losses[target == c].sum() / (target == c).sum() for c in range(logits.shape[1])]
        return torch.stack(per_class).mean() if valid.any() else losses.sum()


@register_loss("wrong_gradient")
class WrongGradient(Base):
    """Focal in value, cross-entropy in gradient."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        focal = (1 - (-losses).exp()) ** 2 * losses
        return (losses + (focal - losses).detach()).sum() / valid.sum().clamp(min=1)


@register_loss("low_precision")
class LowPrecision(Base):
    """Computes in whatever dtype comes in."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        log_p = logits.masked_fill(~valid[:, None], 0.0).log_softmax(1).to(logits.dtype)
        losses = -log_p.gather(1, target.masked_fill(~valid, 0)[:, None])[:, 0] * valid
        return (losses.sum() / valid.sum().clamp(min=1)).to(torch.promote_types(logits.dtype, torch.float32))


@register_loss("wants_contiguous")
class WantsContiguous(Base):
    """.view() on whatever strides come in."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        n, c, h, w = logits.shape
        return self.mean(logits.view(n, c, h * w, 1), target.view(n, h * w, 1))


@register_loss("misreads_strides")
class MisreadsStrides(Base):
    """Takes the memory for NCHW whatever the strides say."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        _, c, h, w = logits.shape
        return self.mean(logits.as_strided(logits.shape, (c * h * w, h * w, w, 1)), target)


@register_loss("class_0_is_background")
class ClassZeroIsBackground(Base):
    """Weighs class 0 less, whatever it is called."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        return (losses * torch.where(target == 0, 0.5, 1.0)).sum() / valid.sum().clamp(min=1)


@register_loss("first_image_counts_twice")
class FirstImageCountsTwice(Base):
    """Depends on the order of the images."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        return (losses.sum() + losses[0].sum()) / valid.sum().clamp(min=1)


@register_loss("spatial")
class Spatial(Base):
    """Weighs pixels by where they lie, and does not say so."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        ramp = torch.linspace(0.5, 1.5, losses.shape[1], dtype=losses.dtype)[None, :, None]
        return (losses * ramp).sum() / valid.sum().clamp(min=1)


@register_loss("spatial_declared")
class SpatialDeclared(Spatial):
    """Weighs pixels by where they lie, and says so."""

    conformance_exceptions = {"pixel_permutation": "rows are weighted", "compaction": "rows are weighted"}  # noqa: RUF012


@register_loss("exception_misspelt")
class ExceptionMisspelt(Base):
    """Declares an exception to a rule that does not exist."""

    conformance_exceptions = {"pixel_permutations": "rows are weighted"}  # noqa: RUF012

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mean(logits, target)


@register_loss("one_vs_rest")
class OneVsRest(Base):
    """Sigmoids: not invariant to a shift of all logits."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != self.ignore_index
        z = logits.double().masked_fill(~valid[:, None], 0.0)
        one_hot = functional.one_hot(target.masked_fill(~valid, 0), z.shape[1]).movedim(-1, 1).double()
        losses = functional.binary_cross_entropy_with_logits(z, one_hot, reduction="none").sum(1) * valid
        return losses.sum() / valid.sum().clamp(min=1)


@register_loss("upside_down")
class UpsideDown(Base):
    """The sign is wrong."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return -self.mean(logits, target)


@register_loss("constant")
class Constant(Base):
    """No gradient at all."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return 0.0 * self.mean(logits, target)


@register_loss("mutates_target")
class MutatesTarget(Base):
    """Writes to the labels."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        value = self.mean(logits, target)
        target[target == self.ignore_index] = 0
        return value


@register_loss("mutates_passes")
class MutatesPasses(Base):
    """Writes to what resample returned."""

    extra_forwards = 1

    def forward(self, logits: Tensor, target: Tensor, resample=None) -> Tensor:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            resample().mul_(2)
        return self.mean(logits, target)


@register_loss("consumes_random_stream")
class ConsumesRandomStream(Base):
    """Draws from the global generator."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        torch.rand(1)
        return self.mean(logits, target)


@register_loss("switches_deterministic_mode")
class SwitchesDeterministicMode(Base):
    """Changes a global mode."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        value = self.mean(logits, target)
        torch.use_deterministic_algorithms(not torch.are_deterministic_algorithms_enabled())
        return value


@register_loss("updates_batchnorm")
class UpdatesBatchNorm(Base):
    """Holds a BatchNorm, and its statistics move."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.norm = nn.BatchNorm2d(1, affine=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.norm(logits.detach().float().mean(1, keepdim=True).nan_to_num())
        return self.mean(logits, target)


@register_loss("samples_pixels")
class SamplesPixels(Base):
    """A random half of the pixels, by the global generator."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        losses, valid = self.pixels(logits, target)
        return (losses * (torch.rand(losses.shape) < 0.5)).sum() / valid.sum().clamp(min=1)


@register_loss("hidden_state")
class HiddenState(Base):
    """Remembers in an attribute that no state_dict saves."""

    calls = 0

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return self.mean(logits, target) * self.calls


@register_loss("saved_state")
class SavedState(Base):
    """Remembers in a buffer: as it should."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return self.mean(logits, target) * (1 + 0.01 * self.calls)


@register_loss("too_few_passes")
class TooFewPasses(Base):
    """Says 5 extra forwards, makes 1."""

    extra_forwards = 5

    def forward(self, logits: Tensor, target: Tensor, resample=None) -> Tensor:  # type: ignore[no-untyped-def]
        if resample is None:
            raise ValueError("needs resample")
        with torch.no_grad():
            resample()
        return self.mean(logits, target)


@register_loss("passes_with_gradient")
class PassesWithGradient(Base):
    """Keeps the graph of a pass for nothing."""

    extra_forwards = 1

    def forward(self, logits: Tensor, target: Tensor, resample=None) -> Tensor:  # type: ignore[no-untyped-def]
        if resample is None:
            raise ValueError("needs resample")
        resample()
        return self.mean(logits, target)


@register_loss("silent_without_resample")
class SilentWithoutResample(Base):
    """Does without the passes it was not given."""

    extra_forwards = 1

    def forward(self, logits: Tensor, target: Tensor, resample=None) -> Tensor:  # type: ignore[no-untyped-def]
        if resample is not None:
            with torch.no_grad():
                resample()
        return self.mean(logits, target)


@register_loss("declares_passes_it_cannot_make")
class DeclaresPassesItCannotMake(Base):
    """Says it makes passes and takes no resample."""

    extra_forwards = 3

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mean(logits, target)


@register_loss("diagnoses_by_pixel")
class DiagnosesByPixel(Base):
    """Tells a map instead of a number per class."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.mean(logits, target)

    def diagnose(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"nll": self.pixels(logits, target)[0]}


@register_loss("attached_diagnostics")
class AttachedDiagnostics(Base):
    """Its diagnostics hold the graph."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        value = self.mean(logits, target)
        self.diagnostics = {"value": value}
        return value

    def __init__(self, *, ignore_index: int = 255) -> None:
        super().__init__(ignore_index=ignore_index)
        self.diagnostics: dict[str, Tensor] = {}


@register_loss("cannot_be_built")
class CannotBeBuilt(Base):
    """Its constructor raises."""

    def __init__(self, *, ignore_index: int = 255) -> None:
        raise RuntimeError("no luck")


@register_loss("not_a_module")
def not_a_module(*, ignore_index: int = 255):  # type: ignore[no-untyped-def]
    """A function that returns a function."""
    return lambda logits, target: nll(logits, target, ignore_index)[0].mean()
