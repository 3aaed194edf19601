"""The `weights` parameter of every backbone: ImageNet weights that are fetched, or a file of the user's.

`weights: imagenet` reaches for the network unless the file is cached already; a machine without one gets a
SetupError that says what to do, within seconds. `weights: path` takes the encoder's weights or a whole network's.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn
from torchvision.models import WeightsEnum

from lossbench.errors import DataError, SetupError, did_you_mean

#: Seconds a connection may be silent before it counts as down (firewalls often drop packets without a word).
TIMEOUT = 10.0

State = dict[str, Tensor]
Convert = Callable[[State], State]


# --- fetched weights ---


def fetch(network: str, weights: WeightsEnum) -> State:
    """torchvision's weights, from torch's hub cache or the network. Raises SetupError when they cannot be had."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # urllib, which torch.hub uses, has no limit of its own
    try:
        state: State = weights.get_state_dict(progress=False, check_hash=True)
        return state
    except (OSError, RuntimeError) as error:  # no network or no space; a download with a wrong checksum
        file = folder / Path(urlparse(weights.url).path).name
        raise _unreachable(network, error, f"fetch {weights.url} elsewhere and put it at {file}") from error
    finally:
        socket.setdefaulttimeout(patience)


@contextmanager
def model_hub(network: str, *, wanted: bool) -> Iterator[None]:
    """Around a constructor of timm or smp that fetches weights from the Hugging Face hub, if they are `wanted`.

    The client would retry for up to a minute, so the hub is tried once beforehand; when it does not answer, only
    what is cached is used. Raises SetupError when the weights cannot be had.
    """
    if not wanted:
        yield
        return
    from huggingface_hub import constants

    reason = _hub_problem()
    offline, patience = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    constants.HF_HUB_OFFLINE = offline or reason is not None
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    except OSError as error:
        advice = f"build it once where there is network and copy the cache {constants.HF_HOME} (or set HF_HOME)"
        raise _unreachable(network, reason or error, advice) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(patience)


def _hub_problem() -> Exception | None:
    """Why the hub cannot be reached, or None when it answers (whatever it says) or is switched off on purpose."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # the client library, and with it the class of the error, differs between versions
        return error
    return None


def _unreachable(network: str, reason: Exception, advice: str) -> SetupError:
    words = str(reason).strip().splitlines() or [type(reason).__name__]
    return SetupError(
        f"the ImageNet weights of {network} could not be fetched: {words[0]}",
        hint=f"{advice}; or set `weights: none` (train from scratch) or `weights: path/to/file.pth`",
    )


# --- a file of the user's ---


def load_file(network: nn.Module, encoder: nn.Module, path: Path, *, name: str, convert: Convert | None = None) -> None:
    """Load `path` into `network` in place.

    Takes .pth/.pt files (a state dict, or a checkpoint that has one under "model" or "state_dict") and .safetensors.
    Arguments as in `load_state`.

    Raises:
        DataError: the file is missing, holds no state dict, or does not fit (with the first keys and their counts).
    """
    load_state(network, encoder, _read(path), source=str(path), name=name, convert=convert)


def load_state(
    network: nn.Module, encoder: nn.Module, state: State, *, source: str, name: str, convert: Convert | None = None
) -> None:
    """Load a state dict into `network` in place: as that of the whole network, or else of its encoder.

    Tensors of modules that are cut off here (an ImageNet classifier, an auxiliary head) are skipped; every tensor
    of the target must be there.

    Args:
        network: the backbone.
        encoder: the part of it that encoder weights fill.
        state: names to tensors.
        source: where they are from, for messages.
        name: the backbone's name, for messages.
        convert: applied to `state` first, e.g. linear layers into convolutions.

    Raises:
        DataError: it fits neither.
    """
    if convert is not None:
        state = convert(state)
    attempts = [_match(network, "", state)]
    prefix = next(known for known, module in network.named_modules() if module is encoder)
    attempts.append(_match(encoder, f"{prefix}.", state))
    while [child for child, _ in encoder.named_children()] == ["model"]:  # a wrapper around the network proper
        encoder, prefix = encoder.get_submodule("model"), f"{prefix}.model"
        attempts.append(_match(encoder, f"{prefix}.", state))
    best = min(attempts, key=lambda attempt: attempt.problems)
    if best.problems:
        raise DataError(
            f"weights {source} do not fit {name}: {best.describe()}",
            hint="a file holds either the encoder or the whole network, of the same architecture and classes",
        )
    network.load_state_dict(best.tensors, strict=False)


def check_weights(weights: str | Path) -> None:
    """Raises DataError when `weights` is the path of no file: at once, before a large network is built."""
    if isinstance(weights, Path) and not weights.is_file():
        _not_a_file(weights)


def _not_a_file(path: Path) -> NoReturn:
    kind = "is a folder" if path.is_dir() else "not found"
    options = "weights: imagenet, none, or the path of a file"
    raise DataError(f"weights file {kind}: {path}", hint=did_you_mean(str(path), ["imagenet", "none"]) or options)


def _read(path: Path) -> State:
    if not path.is_file():
        _not_a_file(path)
    try:
        content: Any = _load(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"weights {path} cannot be read: {reason}",
            hint="save tensors only: torch.save(model.state_dict(), path)",
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise DataError(
            f"weights {path} hold no state dict but {type(content).__name__}",
            hint="save it as torch.save(model.state_dict(), path)",
        )
    state = {str(key): value for key, value in content.items()}
    for wrapper in ("module.", "_orig_mod."):  # DistributedDataParallel, torch.compile
        if all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state


def _load(path: Path) -> Any:
    return load_safetensors(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)


@dataclass
class _Match:
    """How the tensors of a file fit a module; `tensors` has the names of the whole network."""

    tensors: State = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    @property
    def problems(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def describe(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshapen))
        return ", ".join(f"{len(keys)} {kind} (first: {keys[0]})" for kind, keys in kinds if keys)


def _match(module: nn.Module, prefix: str, state: State) -> _Match:
    # timm's feature extractors flatten `blocks.0` to `blocks_0`; with one separator, both read the same.
    targets = module.state_dict()
    expected = {_flat(key): key for key in targets}
    parts = tuple(_flat(f"{child}.") for child, part in module.named_children() if part.state_dict())
    match = _Match()
    for key, value in state.items():
        known = expected.pop(_flat(key), None)
        if known is None:
            if _flat(key).startswith(parts):  # else it belongs to a module that this network does not have
                match.unexpected.append(key)
        elif value.shape != targets[known].shape:
            match.misshapen.append(f"{key}: file {tuple(value.shape)}, network {tuple(targets[known].shape)}")
        else:
            match.tensors[prefix + known] = value
    # Files from before PyTorch 0.4.1 lack the counter, which only matters for momentum=None.
    match.missing = [key for key in expected.values() if not key.endswith("num_batches_tracked")]
    return match


def _flat(key: str) -> str:
    return key.replace(".", "_")
