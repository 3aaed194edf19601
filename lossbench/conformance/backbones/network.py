"""Rules about a network as such: contract, sizes, gradients, state, initial weights."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import numpy as np
import torch

from lossbench.conformance.backbones.subject import CLASSES, SIZE, BackboneSubject, seeded
from lossbench.conformance.report import Check, Rule, same


def contract(subject: BackboneSubject) -> Iterator[Check]:
    """A Backbone with a docstring, a static signature, `num_classes`; its encoder is a part of it, not all."""
    plugin, network = subject.plugin, subject.network
    yield Check("the file", repr(plugin.summary), "a docstring that says what it is", bool(plugin.summary))
    static = plugin.static_signature is not None
    yield Check("the file", f"signature {'' if static else 'not '}static", "literal defaults and plain types", static)
    facts = sorted(plugin.facts)
    yield Check("the constructor", f"facts {facts}", "num_classes", facts == ["num_classes"])
    everything = {id(parameter) for parameter in network.parameters()}
    encoder = [id(parameter) for parameter in network.encoder_parameters()]
    fits = len(set(encoder)) == len(encoder) > 0 and set(encoder) < everything
    got = f"{len(encoder)} of {len(everything)} parameters"
    yield Check("encoder_parameters()", got, "some of its parameters, not all, none twice", fits)


def output_size(subject: BackboneSubject) -> Iterator[Check]:
    """Finite logits (N, num_classes, H, W) for images of any size, odd ones too, and a batch of 1."""
    network = subject.network.eval()
    for size in (SIZE, (32, 32), (33, 130), (64, 96)):
        subject.fed = f"1 image of {size[0]} x {size[1]}, eval mode"
        with torch.no_grad(), seeded(0):
            logits = network(torch.randn(1, 3, *size))
        shape = (1, CLASSES, *size)
        fits = tuple(logits.shape) == shape and logits.dtype == torch.float32 and bool(logits.isfinite().all())
        bad = int((~logits.isfinite()).sum())
        got = f"{tuple(logits.shape)} {str(logits.dtype).removeprefix('torch.')}, {bad} not finite"
        yield Check(subject.fed, got, f"{shape} float32, all finite", fits)


def classes(subject: BackboneSubject) -> Iterator[Check]:
    """1, 2 and 150 classes: as many channels of logits."""
    for number in (1, 2, 150):
        subject.fed = f"num_classes={number}"
        network = subject.build(number).eval()
        with torch.no_grad(), seeded(0):
            shape = tuple(network(torch.randn(1, 3, 64, 64)).shape)
        expected = (1, number, 64, 64)
        yield Check(subject.fed, f"logits {shape}", f"logits {expected}", shape == expected)


def layout(subject: BackboneSubject) -> Iterator[Check]:
    """channels_last images, and autocast to bfloat16, give the logits of contiguous float32 ones, nearly."""
    network = subject.network.eval()
    images = subject.images[:1, :, :64, :64]
    with torch.no_grad():
        plain = network(images.contiguous())
        subject.fed = "channels_last images"
        off = (network(images.to(memory_format=torch.channels_last)) - plain).abs().max() / plain.abs().max()
        yield Check(subject.fed, f"logits off by {off:.2g} of the largest", "<= 0.001", bool(off <= 1e-3))
        subject.fed = "autocast to bfloat16"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = network(images)
        off = (low.float() - plain).abs().mean() / plain.abs().mean()
        yield Check(subject.fed, f"logits off by {off:.2g} of their mean", "<= 0.1", bool(off <= 0.1))


def gradient(subject: BackboneSubject) -> Iterator[Check]:
    """A gradient reaches every parameter, finite, and not zero throughout a weight of several dimensions."""
    network = subject.network
    subject.fed = "two images, a random linear function of the logits"
    with seeded(0):
        logits = network(subject.images)
        (logits * torch.randn_like(logits)).sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    yield Check(subject.fed, f"no gradient: {_some(without)}", "no gradient: none", not without)
    infinite = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    yield Check(subject.fed, f"not finite: {_some(infinite)}", "not finite: none", not infinite)
    zero = [n for n, p in network.named_parameters() if p.grad is not None and p.ndim > 1 and not p.grad.any()]
    yield Check(subject.fed, f"zero throughout: {_some(zero)}", "zero throughout: none", not zero)


def state(subject: BackboneSubject) -> Iterator[Check]:
    """The state_dict, saved and loaded into another one, gives the same logits in every bit."""
    network, other = subject.network, subject.build(seed=7)
    with torch.no_grad(), seeded(0):
        network(subject.images)  # running statistics that are not the initial ones
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    subject.fed = "one training pass, then another network with the saved state_dict, eval mode"
    other.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        got, expected = (net.eval()(subject.images) for net in (other, network))
    yield same(subject.fed, "logits", got, expected)


def determinism(subject: BackboneSubject) -> Iterator[Check]:
    """Initial weights are a function of torch's generator alone; the same images give the same bits."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    weights = []
    try:
        for noise in range(2):
            random.seed(noise)
            np.random.seed(noise)  # noqa: NPY002
            subject.fed = "torch.manual_seed(0), other seeds of Python's and numpy's generators"
            weights.append(subject.build().state_dict())
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
    differ = [name for name, value in weights[0].items() if not torch.equal(value, weights[1][name])]
    yield Check(subject.fed, f"differ: {_some(differ)}", "the same initial weights", not differ)
    network = subject.network.eval()
    with torch.no_grad():
        first, second = network(subject.images), network(subject.images)
    yield same("the same images twice, eval mode", "logits", second, first)


NETWORK_RULES: tuple[Rule, ...] = (contract, output_size, classes, layout, gradient, state, determinism)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
