"""PASCAL-Context with the first 20 of its 59 class names: as a paper describes it, provenance unclear."""

from __future__ import annotations

from pathlib import Path

from lossbench.datasets._pascal_context import CONTEXT_IDS, ContextDataset
from lossbench.registry import register_dataset

#: aeroplane ... cow, in the order of the official list.
CLASSES = tuple(CONTEXT_IDS)[:20]


@register_dataset("pascal_context_paper20")
class PascalContextPaper20(ContextDataset):
    """First 20 names of PASCAL-Context, all else ignored; as described, provenance unclear.

    Su et al. (2022) call their data PASCAL VOC 2010 and list 20 classes that are not VOC's, but the first 20 of
    PASCAL-Context's 59 in alphabetical order. What became of the other pixels is not stated: here they are ignored.
    Layouts and files are those of `pascal_context`, whose folder is read, too.
    """

    def __init__(self, root: Path) -> None:
        self._read_as(root, CLASSES)

    def __reduce__(self) -> tuple[type[PascalContextPaper20], tuple[Path]]:
        return type(self), (self.root,)
