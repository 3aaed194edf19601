"""PASCAL-Context: every pixel of VOC 2010's images, 59 frequent classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lossbench.datasets._pascal_context import CONTEXT_IDS, ContextDataset
from lossbench.registry import register_dataset


@register_dataset("pascal_context")
class PascalContext(ContextDataset):
    """PASCAL-Context: 59 classes of things and stuff on VOC 2010's images, 4998/5105 of many sizes.

    Labels: `trainval/*.mat` of the official archive, with `ImageSets/Main/{train,val}.txt` or, if it is there, the
    Detail API's `trainval_merged.json` (4996/5104); or else the converted `SegmentationClassContext/*.png` with
    `ImageSets/SegmentationContext/{train,val}.txt`. The record notes which. Images: VOCdevkit/VOC2010, here or in the
    folder of `voc2010`.

    Args:
        background: everything outside the 59 is a 60th class instead of ignored. The two protocols differ by 4 to 6
            points of mIoU: never compare across them.
    """

    def __init__(self, root: Path, *, background: bool = False) -> None:
        self._background = background
        self._read_as(root, tuple(CONTEXT_IDS), background=background)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.root, self._background)


def _rebuild(root: Path, background: bool) -> PascalContext:
    return PascalContext(root, background=background)
