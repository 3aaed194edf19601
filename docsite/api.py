"""The pages of the API reference: which modules stand on which, and what of them."""

from __future__ import annotations

from dataclasses import dataclass

from docsite.plugins import path_of
from lossbench.registry import Registry, all_registries


@dataclass(frozen=True)
class Page:
    """A page: its file and title, what stands above it, and the modules or objects on it."""

    file: str
    title: str
    intro: str
    objects: tuple[str, ...]


PAGES = (
    Page(
        "losses",
        "Losses",
        "Ordinary `nn.Module`s: `from lossbench.losses import FocalLoss`. [Losses in a training loop of your "
        "own](../../using-losses.md) shows them in PyTorch, Lightning and Hugging Face Trainer.",
        ("lossbench.losses", *(path_of(plugin) for plugin in Registry("loss"))),
    ),
    Page(
        "backbones",
        "Backbones",
        "The contract, and the networks that come with lossbench.",
        ("lossbench.backbones.base", *(path_of(plugin) for plugin in Registry("backbone"))),
    ),
    Page(
        "datasets",
        "Datasets",
        "The contract, and the datasets that come with lossbench. None is shipped; `streets` is generated.",
        ("lossbench.datasets.base", *(path_of(plugin) for plugin in Registry("dataset"))),
    ),
    Page(
        "registry",
        "Registry and conformance",
        "How plugins are found and built, and the rules they are held to.",
        (
            "lossbench.registry",
            "lossbench.plugin",
            "lossbench.signatures.Param",
            "lossbench.terms.LossTerm",
            "lossbench.conformance",
            "lossbench.conformance.report",
            "lossbench.errors",
        ),
    ),
    Page(
        "metrics",
        "Metrics and statistics",
        "Pure functions of counts and of numbers.",
        (
            "lossbench.metrics",
            "lossbench.statistics",
            "lossbench.equivalence",
            "lossbench.significance",
            "lossbench.bootstrap",
            "lossbench.ranking",
            "lossbench.audit",
        ),
    ),
    Page(
        "records",
        "Cells and records",
        "What is run, what it leaves behind, and how it is read again.",
        (
            "lossbench.cells",
            "lossbench.protocol",
            "lossbench.records",
            "lossbench.sidecar",
            "lossbench.store",
            "lossbench.runs",
            "lossbench.leaderboard",
            "lossbench.comparison",
            "lossbench.training.montecarlo",
        ),
    ),
)


#: A plugin's heading says the name that suites give it, too.
_OPTIONS = {
    path_of(plugin): "\n".join(
        ("", "    options:", f"      heading: '{plugin.attribute} ({plugin.name})'", f"      toc_label: {plugin.name}")
    )
    for plugins in all_registries().values()
    for plugin in plugins
}


def text(page: Page) -> str:
    """The page, in Markdown for mkdocstrings."""
    entries = "\n\n".join(f"::: {name}{_OPTIONS.get(name, '')}" for name in page.objects)
    return f"---\ntitle: {page.title}\n---\n\n# {page.title}\n\n{page.intro}\n\n{entries}\n"
