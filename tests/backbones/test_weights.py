"""`weights: imagenet | none | path`: what loads, and what a user reads when it cannot."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision.models import resnet50

from lossbench.backbones import _weights
from lossbench.backbones._weights import load_state
from lossbench.backbones.fcn8s import _convolutionise
from lossbench.errors import DataError, SetupError
from tests.backbones.conftest import build_small


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def donor() -> dict[str, torch.Tensor]:
    network = build_small("fcn_timm")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    return network.state_dict()


@pytest.mark.parametrize("wrap", ["plain", "model", "state_dict", "ddp", "compiled", "safetensors"])
def test_whole_network_from_a_file(tmp_path: Path, donor: dict[str, torch.Tensor], wrap: str) -> None:
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file(donor, path)
    else:
        content: Any = {"model": {"model": donor, "step": 7}, "state_dict": {"state_dict": donor}}.get(wrap, donor)
        prefix = {"ddp": "module.", "compiled": "_orig_mod."}.get(wrap)
        torch.save({f"{prefix}{k}": v for k, v in donor.items()} if prefix else content, path)
    assert same(build_small("fcn_timm", weights=str(path)).state_dict(), donor)


@pytest.mark.parametrize(
    "encoder", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050", "vit_tiny_patch16_224"]
)
def test_timm_classifier_fills_the_encoder(tmp_path: Path, encoder: str) -> None:
    """A classification checkpoint as timm saves it: other nesting of names, layers that the encoder lacks."""
    torch.manual_seed(5)
    classifier = timm.create_model(encoder, pretrained=False)
    torch.save(classifier.state_dict(), tmp_path / "encoder.pth")
    network = build_small("fcn_timm", encoder=encoder, weights=str(tmp_path / "encoder.pth")).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = classifier.eval().forward_intermediates(images, intermediates_only=True)[-1]
        assert torch.allclose(network.encoder(images)[-1], expected, atol=1e-5)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet", "efficientnet-b0"])
def test_smp_encoder_from_a_file(tmp_path: Path, encoder: str) -> None:
    source = build_small("unet", encoder=encoder)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.0)
    torch.save(source.encoder.state_dict(), tmp_path / "e.pth")
    network = build_small("unet", encoder=encoder, weights=str(tmp_path / "e.pth"))
    assert same(network.encoder.state_dict(), source.encoder.state_dict())
    assert not same(network.decoder.state_dict(), source.decoder.state_dict())


def test_torchvision_classifier_fills_the_resnet() -> None:
    network = build_small("fcn_resnet50")
    torch.manual_seed(9)
    state = resnet50(weights=None).state_dict()
    load_state(network, network.backbone, state, source="resnet50", name="fcn_resnet50")
    assert all(torch.equal(v, state[k]) for k, v in network.backbone.state_dict().items())
    state["layer4.3.conv1.weight"] = torch.zeros(1)  # as of a deeper ResNet
    with pytest.raises(DataError, match=r"1 unexpected \(first: layer4.3.conv1.weight\)"):
        load_state(network, network.backbone, state, source="resnet50", name="fcn_resnet50")


def test_vgg_classifier_becomes_convolutions() -> None:
    """Long et al. 2015, figure 2: the same numbers in another shape."""
    weight, bias = torch.randn(16, 512 * 7 * 7), torch.randn(16)
    state = _convolutionise({"classifier.0.weight": weight, "classifier.0.bias": bias, "features.0.bias": bias})
    pool5 = torch.randn(1, 512, 7, 7)
    got = torch.nn.functional.conv2d(pool5, state["fc6.weight"], state["fc6.bias"])
    assert torch.allclose(got.flatten(1), torch.nn.functional.linear(pool5.flatten(1), weight, bias), atol=1e-3)
    assert sorted(state) == ["fc6.bias", "fc6.weight", "features.0.bias"]


def test_misfits_name_keys_and_counts(tmp_path: Path, donor: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "w.pth"
    del donor["classifier.4.bias"]
    del donor["classifier.4.weight"]
    donor["classifier.9.weight"] = torch.zeros(1)
    donor["classifier.0.weight"] = torch.zeros(2, 3)
    torch.save(donor, path)
    with pytest.raises(DataError) as caught:
        build_small("fcn_timm", weights=str(path))
    assert str(caught.value) == (
        f"weights {path} do not fit fcn_timm (test_resnet): 2 missing (first: classifier.4.weight), "
        "1 unexpected (first: classifier.9.weight), 1 of another shape "
        "(first: classifier.0.weight: file (2, 3), network (64, 64, 3, 3))"
    )
    assert caught.value.hint is not None


def test_other_number_of_classes_does_not_fit(tmp_path: Path, donor: dict[str, torch.Tensor]) -> None:
    torch.save(donor, tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"2 of another shape \(first: classifier.4.weight: file \(5, "):
        build_small("fcn_timm", num_classes=7, weights=str(tmp_path / "w.pth"))


class _Evil:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


@pytest.mark.parametrize("content", ["text", "empty", "tensor", "mixed", "code", "truncated", "safetensors", "folder"])
def test_files_that_hold_no_weights(
    tmp_path: Path, content: str, donor: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("w.safetensors" if content == "safetensors" else "w.pth")
    if content in {"text", "safetensors"}:
        path.write_text("not weights\nat all")
    elif content == "folder":
        path.mkdir()
    else:
        torch.save(
            {"empty": {}, "tensor": torch.zeros(2), "mixed": {"a": 1}, "code": _Evil()}.get(content, donor), path
        )
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as caught:
        build_small("fcn_timm", weights=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "executed" not in capsys.readouterr().out


# --- no network ---


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No name resolves and nothing is cached; everything above the socket is real."""

    def refuse(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for proxy in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
        monkeypatch.delenv(proxy.upper(), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("fcn_resnet50", {}),
        ("fcn8s_vgg16", {}),
        ("fcn_timm", {}),
        ("unet", {}),
        ("smp", {"architecture": "FPN", "encoder": "tu-test_resnet"}),
    ],
)
def test_imagenet_without_network(offline: Path, name: str, params: dict[str, str]) -> None:
    from huggingface_hub import constants

    before = socket.getdefaulttimeout(), constants.HF_HUB_OFFLINE
    started = time.perf_counter()
    with pytest.raises(SetupError, match=r"the ImageNet weights of .* could not be fetched: .*not known") as caught:
        build_small(name, weights="imagenet", **params)
    assert time.perf_counter() - started < 15, "it retried"
    assert caught.value.exit_code == 3
    assert "\n" not in f"{caught.value}{caught.value.hint}"
    assert "`weights: none`" in str(caught.value.hint)
    assert "`weights: path/to/file.pth`" in str(caught.value.hint)
    if name in {"fcn_resnet50", "fcn8s_vgg16"}:
        assert str(offline / "hub" / "checkpoints") in str(caught.value.hint)
    else:
        assert "HF_HOME" in str(caught.value.hint)
    assert (socket.getdefaulttimeout(), constants.HF_HUB_OFFLINE) == before


def test_weights_in_the_cache_need_no_network(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(9)
    state = resnet50(weights=None).state_dict()
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: state)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    network = build_small("fcn_resnet50", weights="imagenet")
    assert all(torch.equal(v, state[k]) for k, v in network.backbone.state_dict().items())


def test_hub_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(_weights, "_hub_problem", lambda: None)
    with _weights.model_hub("x", wanted=True):
        assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(_weights, "_hub_problem", lambda: OSError("down"))
    with _weights.model_hub("x", wanted=True):
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(SetupError, match="could not be fetched: down"), _weights.model_hub("x", wanted=True):
        raise FileNotFoundError("not in the cache")
