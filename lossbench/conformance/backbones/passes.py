"""Rules about the cut into trunk and head, and the Monte-Carlo passes it is made for."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lossbench.conformance.backbones.subject import SIZE, BackboneSubject, dropouts, leaves, seeded
from lossbench.conformance.report import Check, Rule, same
from lossbench.training.montecarlo import Resampler

#: Of the test whether resampled and full passes are alike: passes of each kind, permutations, and how often a sound
#: backbone may fail it.
_PASSES, _PERMUTATIONS, _LEVEL = 24, 1999, 0.001


def cut(subject: BackboneSubject) -> Iterator[Check]:
    """forward(x) = head(trunk(x)) in every bit: in eval mode, and in training mode with the same dropout masks."""
    for training in (False, True):
        network = subject.network.train(training)
        subject.fed = f"two images of {SIZE[0]} x {SIZE[1]}, {'training' if training else 'eval'} mode"
        with torch.no_grad():
            with seeded(3):
                whole = network(subject.images)
            with seeded(3):
                parts = network.head(network.trunk(subject.images), SIZE)
        yield same(subject.fed, "head(trunk(x))", parts, whole)


def trunk(subject: BackboneSubject) -> Iterator[Check]:
    """In training mode, too, the trunk draws no random number and gives the same bits."""
    network = subject.network
    subject.fed = "two images, training mode"
    with torch.no_grad(), seeded(4):
        before = torch.get_rng_state()
        first, second = leaves(network.trunk(subject.images)), leaves(network.trunk(subject.images))
        drew = not torch.equal(before, torch.get_rng_state())
    yield Check(subject.fed, f"the trunk drew {'' if drew else 'no '}random numbers", "it draws none", not drew)
    for index, (a, b) in enumerate(zip(first, second, strict=True)):
        yield same(subject.fed, f"features {index}", b, a)


def dropout(subject: BackboneSubject) -> Iterator[Check]:
    """Some dropout layer is active, all of them in the head, and nothing else is random."""
    network = subject.network
    ran: list[float] = []
    hooks = [part.register_forward_hook(lambda module, *_: ran.append(module.p)) for part in dropouts(network)]
    subject.fed = "two images, training mode"
    try:
        with torch.no_grad(), seeded(0):
            features = network.trunk(subject.images)
            in_trunk = [rate for rate in ran if rate > 0]
            ran.clear()
            network.head(features, SIZE)
    finally:
        for hook in hooks:
            hook.remove()
    yield Check(subject.fed, f"{len(in_trunk)} active dropout layers in the trunk", "none", not in_trunk)
    active = [rate for rate in ran if rate > 0]
    yield Check(subject.fed, f"rates in the head: {active}", "an nn.Dropout layer with a rate above 0", bool(active))
    # Stochastic depth and the like, which have no dropout class.
    paths = [
        f"{type(part).__name__}.{rate}"
        for part in network.modules()
        for rate in ("drop_prob", "_drop_connect_rate")
        if getattr(part, rate, None)
    ]
    yield Check("its layers", f"other random layers: {', '.join(paths) or 'none'}", "none", not paths)
    for part in dropouts(network):
        part.p = 0.0
    subject.fed = "all dropout rates 0, two heads of the same features"
    with torch.no_grad():
        features = network.trunk(subject.images)
        with seeded(1):
            first = network.head(features, SIZE)
        with seeded(2):
            second = network.head(features, SIZE)
    yield same(subject.fed, "logits", second, first)


def resample(subject: BackboneSubject) -> Iterator[Check]:
    """Resampling the head gives fresh logits, reproducibly, and leaves no trace: features, BatchNorm, modes, seeds."""
    network = subject.network
    subject.fed = "three passes of the head on the features of two images, training mode"
    with torch.no_grad(), seeded(0):
        features = network.trunk(subject.images)
        kept = [leaf.clone() for leaf in leaves(features)]
        before = {key: value.clone() for key, value in network.state_dict().items()}
        modes, generator = [module.training for module in network.modules()], torch.get_rng_state()
        again = Resampler(network, features, SIZE, seed=11)
        first, second, repeated = again(), again(), Resampler(network, features, SIZE, seed=11)()
        undrawn = torch.equal(generator, torch.get_rng_state())
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    got = f"changed: {', '.join(changed[:3]) or 'nothing'}"
    yield Check(subject.fed, got, "buffers (BatchNorm's statistics) and weights unchanged", not changed)
    for index, (a, b) in enumerate(zip(kept, leaves(features), strict=True)):
        yield same(subject.fed, f"features {index} after the passes", b, a)
    switched = modes != [module.training for module in network.modules()]
    yield Check(subject.fed, f"training modes {'' if switched else 'un'}changed", "unchanged", not switched)
    yield Check(subject.fed, f"global generator {'un' * undrawn}changed", "unchanged", undrawn)
    yield same(subject.fed, "the same pass again", repeated, first)
    fresh = not torch.equal(first, second)
    yield Check(subject.fed, f"two passes {'differ' if fresh else 'are the same'}", "they differ", fresh)


def resample_distribution(subject: BackboneSubject) -> Iterator[Check]:
    """Resampled logits are distributed as those of full passes: a permutation test of their energy distance."""
    network = subject.network
    images = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(5))
    subject.fed = f"{_PASSES} passes of the head on the same features, {_PASSES} of the whole network, training mode"
    with torch.no_grad():
        draw = Resampler(network, network.trunk(images), (48, 64), seed=12)
        heads = torch.stack([draw().flatten() for _ in range(_PASSES)])
        full = []
        for index in range(_PASSES):
            with seeded(1000 + index):
                full.append(network(images).flatten())
    chance = same_distribution(heads, torch.stack(full))
    got = f"p = {chance:.4g} (energy distance, {_PERMUTATIONS} permutations)"
    yield Check(subject.fed, got, f"p > {_LEVEL:g}", chance > _LEVEL)


def narrow(subject: BackboneSubject) -> Iterator[Check]:
    """`narrow` is the head before its widening: same draws, same bits; where it is None, nothing is drawn."""
    network = subject.network
    subject.fed = "features of two images, training mode"
    with torch.no_grad():
        features = network.trunk(subject.images)
        with seeded(5):
            before = torch.get_rng_state()
            narrowed = network.narrow(features, SIZE)
            after = torch.get_rng_state()
        with seeded(5):
            logits = network.head(features, SIZE)
            after_head = torch.get_rng_state()
    drawn = torch.equal(after, before if narrowed is None else after_head)
    expected = "no random number drawn" if narrowed is None else "as many random numbers drawn as by the head"
    yield Check(subject.fed, expected if drawn else "another number drawn", expected, drawn)
    if narrowed is not None:
        yield same(subject.fed, "narrow(...).widened(size)", narrowed.widened(SIZE), logits)


PASSES_RULES: tuple[Rule, ...] = (cut, trunk, dropout, resample, resample_distribution, narrow)


def same_distribution(first: Tensor, second: Tensor, *, permutations: int = _PERMUTATIONS) -> float:
    """P value of "both samples, (n, D) and (m, D), come from one distribution".

    A permutation test of the energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| (Székely and Rizzo 2004) of the vectors, each
    coordinate divided by its pooled standard deviation. It is exact: where the hypothesis holds, p <= a has a
    probability of at most a, for any n, m and D.
    """
    pooled = torch.cat([first, second]).double()
    spread = pooled.std(0)
    pooled = pooled[:, spread > 0] / spread[spread > 0]
    distances = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    n, m = len(first), len(second)
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(n + m, generator=generator) for _ in range(permutations)]
    # One row a labelling: 1/n for members of the first sample, -1/m for the others. The statistic is -s' D s.
    signs = torch.full((permutations + 1, n + m), -1 / m, dtype=torch.float64)
    signs[0, :n] = 1 / n
    for row, order in enumerate(orders, 1):
        signs[row, order[:n]] = 1 / n
    statistics = -((signs @ distances) * signs).sum(1)
    # A hair of tolerance: labellings that are the same but for rounding count as ties.
    beaten = int((statistics[1:] >= statistics[0] - 1e-9 * statistics[0].abs()).sum())
    return (1 + beaten) / (permutations + 1)
