"""A training sample from the decode-once cache against decoding its files in every epoch, one thread."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import Options, Row, Table, interleave, optional
from lossbench.data.augment import AugmentParams, sample_params
from lossbench.data.batches import TrainBatches
from lossbench.data.cache import CachedSplit, open_split
from lossbench.data.randomness import generator
from lossbench.data.roots import data_root, dataset_root
from lossbench.protocol import Protocol
from lossbench.registry import Registry

#: What a sample decoded anew with Pillow must cost more than one from the cache, by the random scale.
TARGETS = {"resize, crop, flip": (5.0, [0.5, 2.0]), "crop, flip": (20.0, [1.0, 1.0])}
OURS = "lossbench cache"
CLASSES = 11
Decode = Callable[[Path, Path, AugmentParams], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Kind:
    """Synthetic images; `noise` is the standard deviation that gives PNGs of a realistic size."""

    name: str
    size: tuple[int, int]
    crop: tuple[int, int]
    noise: float
    images: int


KINDS = (
    Kind("CamVid-like", (360, 480), (320, 320), 4.5, 16),
    Kind("Cityscapes-like", (1024, 2048), (512, 1024), 4.5, 6),
)


def run(options: Options) -> list[Table]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            sources = [synthetic(kind, Path(folder) / kind.name) for kind in (KINDS[:1] if options.quick else KINDS)]
            real = camvid(Path(folder) / "cache")
            if real is not None and not options.quick:
                sources.insert(0, real)
            return [table for source in sources for table in _tables(source, options)]
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Source:
    """Image and mask files, the same in the cache, and the crop to take."""

    name: str
    files: list[tuple[Path, Path]]
    split: CachedSplit
    crop: tuple[int, int]


def _tables(source: Source, options: Options) -> list[Table]:
    split, files = source.split, source.files
    mean_kb = np.mean([image.stat().st_size for image, _ in files]) / 1000
    tables = []
    for title, (target, scale) in TARGETS.items():
        protocol = Protocol(crop=list(source.crop), scale=scale, batch_size=1)
        candidates = {OURS: cached(TrainBatches(split, protocol, key="bench"))}
        candidates |= {name: decoded(files, decode, protocol, split.size(0)) for name, decode in peers().items()}
        # One turn is a batch of eight. Before the clock starts every file and every page has been read once.
        warmup = 2 * min(len(files), 64)
        spreads = interleave(candidates, baseline=OURS, rounds=options.rounds, repeat=8, warmup=warmup)
        rows = [
            Row(name, ms, ratio, peer=name != OURS, target=target if name == "PIL" else None, at_least=True)
            for name, (ms, ratio) in spreads.items()
        ]
        size = f"{_by(split.size(0))} PNG of {mean_kb:.0f} kB"
        text = f"One training sample: {source.name}, {size}, crop {_by(source.crop)}; {title}"
        note = "uint8 image and label in a batch of one; files and cache in the page cache; 1 thread"
        tables.append(Table(text, OURS, rows, note))
    return tables


def camvid(cache: Path) -> Source | None:
    """The first 64 real images, where LOSSBENCH_DATA has them."""
    root = dataset_root(data_root(), "camvid")
    if not root.is_dir():
        return None
    dataset = Registry("dataset").get("camvid").build({}, root=root)
    split = open_split(dataset, "train", cache_root=cache)
    files = dataset.files("train")  # image, mask, image, mask, ...
    pairs = list(zip(files[::2], files[1::2], strict=True))
    return Source("CamVid", pairs[:64], split, (320, 320))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def synthetic(kind: Kind, folder: Path) -> Source:
    """A folder of images and masks, decoded into a cache beside it."""
    rng = np.random.default_rng(0)
    for index in range(kind.images):
        for what, array in zip(("images", "masks"), picture(rng, kind), strict=True):
            file = folder / what / "train" / f"{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(file)
    names = [f"class {index}" for index in range(CLASSES)]
    dataset = Registry("dataset").get("folder").build({"title": kind.name, "path": folder, "classes": names})
    pairs = [(folder / "images/train" / f"{i}.png", folder / "masks/train" / f"{i}.png") for i in range(kind.images)]
    return Source(kind.name, pairs, open_split(dataset, "train", cache_root=folder / "cache"), kind.crop)


def picture(rng: np.random.Generator, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Smooth blobs with sensor noise, and blobs of labels."""
    height, width = kind.size
    knots = rng.integers(30, 220, (height // 40, width // 40, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(knots).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    image = (smooth + rng.normal(0, kind.noise, smooth.shape)).clip(0, 255).astype(np.uint8)
    blocks = rng.integers(0, CLASSES, (height // 40, width // 40), dtype=np.uint8)
    return image, np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST))


def cached(batches: TrainBatches) -> Callable[[], object]:
    """The next sample at every call."""
    steps = iter(range(1 << 30))
    return lambda: batches.batch(next(steps))


def decoded(
    files: list[tuple[Path, Path]], decode: Decode, protocol: Protocol, size: tuple[int, int]
) -> Callable[[], object]:
    """The same by a peer: same crops, same tensors."""
    steps = iter(range(1 << 30))

    def sample() -> tuple[torch.Tensor, torch.Tensor]:
        step = next(steps)
        image, mask = files[step % len(files)]
        pixels, labels = decode(image, mask, sample_params(generator("bench", step), size, protocol))
        return pixels[None], labels[None]

    return sample


def peers() -> dict[str, Decode]:
    """Pillow, torchvision, OpenCV, each decoding and resizing by its own means."""
    found: dict[str, Decode] = {"PIL": _pil}
    if (io := optional("torchvision.io")) is not None and (v2 := optional("torchvision.transforms.v2.functional")):
        found["torchvision"] = lambda image, mask, params: _torchvision(io, v2, image, mask, params)
    if (cv2 := optional("cv2")) is not None:
        cv2.setNumThreads(1)
        found["cv2"] = lambda image, mask, params: _cv2(cv2, image, mask, params)
    return found


def _pil(image_file: Path, mask_file: Path, params: AugmentParams) -> tuple[torch.Tensor, torch.Tensor]:
    top, left, height, width = params.window
    results = []
    for file, how in ((image_file, Image.Resampling.BILINEAR), (mask_file, Image.Resampling.NEAREST)):
        picture = Image.open(file)
        picture = picture.crop((left, top, left + width, top + height))
        if params.size != (height, width):
            picture = picture.resize(params.size[::-1], how)
        if params.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        results.append(torch.from_numpy(np.array(picture)))
    return results[0].permute(2, 0, 1), results[1]


def _torchvision(io, v2, image_file: Path, mask_file: Path, params: AugmentParams) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
    results = []
    for file, how in ((image_file, v2.InterpolationMode.BILINEAR), (mask_file, v2.InterpolationMode.NEAREST)):
        tensor = v2.crop(io.decode_image(str(file)), *params.window)
        if params.size != params.window[2:]:
            tensor = v2.resize(tensor, list(params.size), how, antialias=True)
        results.append(v2.horizontal_flip(tensor) if params.flip else tensor)
    return results[0], results[1][0]


def _cv2(cv2, image_file: Path, mask_file: Path, params: AugmentParams) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
    top, left, height, width = params.window
    results = []
    for file, flag, how in (
        (image_file, cv2.IMREAD_COLOR, cv2.INTER_LINEAR),
        (mask_file, cv2.IMREAD_UNCHANGED, cv2.INTER_NEAREST),
    ):
        array = cv2.imread(str(file), flag)[top : top + height, left : left + width]
        if params.size != (height, width):
            array = cv2.resize(array, params.size[::-1], interpolation=how)
        results.append(cv2.flip(array, 1) if params.flip else array)
    image = cv2.cvtColor(np.ascontiguousarray(results[0]), cv2.COLOR_BGR2RGB)
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(np.ascontiguousarray(results[1]))
