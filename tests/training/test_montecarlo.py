"""Monte-Carlo resampling: the distribution of full passes, and no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from lossbench.backbones.base import Backbone
from lossbench.training.montecarlo import PlainPasses, Resampler

SIZE = (6, 8)


class Net(Backbone):
    """Dropout, BatchNorm and InstanceNorm with statistics, all in the head; features as a dict of a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.drop = nn.Dropout(0.3)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.norms = nn.Sequential(nn.BatchNorm2d(6), nn.InstanceNorm2d(6, track_running_stats=True), nn.ReLU())
        self.drop2d = nn.Dropout2d(0.5)
        self.out = nn.Conv2d(6, 3, 1)
        self.broken = False

    def trunk(self, images: Tensor) -> dict[str, tuple[Tensor, ...]]:
        return {"maps": (self.body(images),)}

    def head(self, features: dict[str, tuple[Tensor, ...]], size: tuple[int, int]) -> Tensor:
        maps = self.drop2d(self.norms(self.conv(self.drop(features["maps"][0]))))
        if self.broken:
            raise RuntimeError("the head broke")
        return nn.functional.interpolate(self.out(maps), size, mode="bilinear")

    def encoder_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(device: str) -> Net:
    torch.manual_seed(0)
    return Net().to(device).train()


@pytest.fixture
def images(device: str) -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)).to(device)


def traces(net: Net) -> list[Tensor | bool]:
    """All that a pass might disturb."""
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return [
        *generators,
        *(value.clone() for value in net.state_dict().values()),
        *(module.training for module in net.modules()),
    ]


def equal(a: list[Tensor | bool], b: list[Tensor | bool]) -> bool:
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_leaves_no_trace(net: Net, images: Tensor, training: bool, grad: bool) -> None:
    net.train(training)
    features = net.trunk(images)
    before = traces(net)
    resample = Resampler(net, features, SIZE, seed=5)
    with torch.set_grad_enabled(grad):
        passes = [resample() for _ in range(5)]
    assert equal(before, traces(net))
    assert not any(torch.equal(a, b) for i, a in enumerate(passes) for b in passes[:i])


def test_ordinary_passes_do_leave_traces(net: Net, images: Tensor) -> None:
    """The test above would notice: a plain pass of the head moves the generator and all statistics."""
    features = net.trunk(images)
    before = traces(net)
    net.head(features, SIZE)
    after = traces(net)
    moved = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True) if isinstance(a, Tensor))
    assert moved == 1 + 3 + 2  # a generator, BatchNorm's mean, variance and counter, InstanceNorm's mean and variance


def test_a_plain_pass_moves_the_statistics_and_nothing_else(net: Net, images: Tensor) -> None:
    twin = Net().to(images.device)
    twin.load_state_dict(net.state_dict())
    generator = torch.get_rng_state()
    resample = PlainPasses(net, images, seed=5)
    with torch.no_grad():
        passes = [resample() for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), generator)
    assert not torch.equal(*passes)
    with torch.no_grad():
        twin(images), twin(images)
    for (name, got), expected in zip(net.state_dict().items(), twin.state_dict().values(), strict=True):
        deterministic = name.startswith("body") or not name.endswith(("running_mean", "running_var"))
        assert torch.equal(got, expected) == deterministic, name  # those behind a dropout saw other masks


def test_leaves_no_trace_when_the_head_raises(net: Net, images: Tensor) -> None:
    net.eval()
    features = net.trunk(images)
    net.broken = True
    before = traces(net)
    resample = Resampler(net, features, SIZE, seed=5)
    with pytest.raises(RuntimeError, match="the head broke"):
        resample()
    assert equal(before, traces(net))


def test_a_pass_depends_on_seed_and_number_alone(net: Net, images: Tensor) -> None:
    features = net.trunk(images)

    def passes(seed: int) -> list[Tensor]:
        resample = Resampler(net, features, SIZE, seed=seed)
        return [resample() for _ in range(3)]

    torch.manual_seed(1)
    first = passes(8)
    torch.manual_seed(2)
    again = passes(8)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, passes(9), strict=True))


def test_training_pass_is_the_same_with_and_without_resampling(net: Net, images: Tensor) -> None:
    def logits(resamplings: int) -> Tensor:
        torch.manual_seed(4)
        features = net.trunk(images)
        resample = Resampler(net, features, SIZE, seed=1)
        for _ in range(resamplings):
            resample()
        return net.head(features, SIZE)

    assert torch.equal(logits(0), logits(5))


def test_distribution_is_that_of_whole_passes(net: Net, images: Tensor) -> None:
    """Means and variances of every logit over 1000 passes of either kind, by two-sample z scores."""
    count = 1000
    with torch.no_grad():
        resample = Resampler(net, net.trunk(images), SIZE, seed=3)
        heads = torch.stack([resample() for _ in range(count)]).double()
        torch.manual_seed(17)
        wholes = torch.stack([net(images) for _ in range(count)]).double()

    def z(a: Tensor, b: Tensor) -> Tensor:
        return (a.mean(0) - b.mean(0)) / ((a.var(0) + b.var(0)) / count).sqrt()

    means = z(heads, wholes)
    spreads = z((heads - heads.mean(0)) ** 2, (wholes - wholes.mean(0)) ** 2)
    for scores in (means, spreads):
        assert scores.abs().max() < 5
        assert 0.7 < scores.std() < 1.3  # what chance alone gives
    assert heads.var(0).min() > 1e-6


def test_dropout_samples_in_eval_mode_too_and_batchnorm_stays_in_eval(net: Net, images: Tensor) -> None:
    net(images)  # running statistics away from their start
    net.eval()
    features = net.trunk(images)
    resample = Resampler(net, features, SIZE, seed=1)
    with torch.no_grad():
        assert not torch.equal(resample(), resample())
        for module in (net.drop, net.drop2d):
            module.p = 0.0
        assert torch.equal(resample(), net.head(features, SIZE))


def test_gradient_follows_the_callers_mode(net: Net, images: Tensor) -> None:
    features = net.trunk(images)
    resample = Resampler(net, features, SIZE, seed=1)
    with torch.no_grad():
        assert not resample().requires_grad
    resample().sum().backward()
    assert net.body[0].weight.grad is not None
    assert net.body[0].weight.grad.any()


def test_gradient_of_two_passes_adds_up(net: Net, images: Tensor) -> None:
    def gradient(*numbers: int) -> Tensor:
        net.zero_grad()
        resample = Resampler(net, net.trunk(images), SIZE, seed=1)
        total = torch.stack([(resample() ** 2).sum() for _ in range(2)])
        total[list(numbers)].sum().backward()
        assert net.out.weight.grad is not None
        return net.out.weight.grad.clone()

    assert torch.allclose(gradient(0, 1), gradient(0) + gradient(1), rtol=1e-4, atol=1e-4)


def test_autocast_is_that_of_the_training_pass(net: Net, images: Tensor, device: str) -> None:
    """Also when the loss, which calls it, has switched autocast off to compute in float32."""

    def inside(enabled: bool) -> AbstractContextManager[None]:
        return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)

    with inside(True):
        features = net.trunk(images)
        resample = Resampler(net, features, SIZE, seed=1)
        with inside(False), torch.no_grad():
            off = resample()
        again = Resampler(net, features, SIZE, seed=1)
        with torch.no_grad():
            on = again()
        logits = net.head(features, SIZE)
    logits.float().sum().backward()
    with torch.no_grad():
        outside = Resampler(net, {"maps": (features["maps"][0].float(),)}, SIZE, seed=1)()
    assert off.dtype == on.dtype == torch.bfloat16
    assert torch.equal(off, on)
    assert outside.dtype == torch.float32
    # A weight cast without gradient must not have been cached for the training pass.
    assert net.conv.weight.grad is not None


def test_inference_in_a_loop_of_makers(net: Net, images: Tensor) -> None:
    """One resampler a step, as the engine makes them: steps differ through their seeds."""

    def steps() -> Iterator[Callable[[], Tensor]]:
        for step in range(3):
            yield Resampler(net, net.trunk(images), SIZE, seed=step)

    with torch.no_grad():
        first = [resample() for resample in steps()]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])
