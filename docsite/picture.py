"""The picture at the head of README.md: `python -m docsite.picture` takes it of a page that `lossbench report` makes.

The page's own filter leaves the losses that were run with every seed. A hash of the scores in results/ is written into
the file; a test works it out again. Fonts are those of the machine: look at the picture before you commit it.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from docsite.figures import FOLDER
from docsite.measured import DATASET, ITERATIONS, ROOT, digest
from lossbench import metrics
from lossbench.cli.main import run
from lossbench.store import Store

FILE = FOLDER / "leaderboard.png"
#: The page: streets is generated, so that nothing of anybody's images can be in the picture.
PAGE = "blocks/streets-imbalance-100-fcn-timm-weights-none.html"
WIDTH, SCALE, MARGIN = 1280, 1.5, 12
SEEDS = 6


def scores(root: Path = ROOT) -> dict[str, dict[str, float]]:
    """mIoU in percent of every run on the page: {loss: {seed: mIoU}}."""
    found: dict[str, dict[str, float]] = {}
    for stored in Store(root / "results").read_all()[0]:
        record = stored.record
        if record.labels["dataset"] == DATASET and record.cell["protocol"]["iterations"] == ITERATIONS:
            found.setdefault(record.labels["loss"], {})[str(record.seed)] = 100 * metrics.mean_iou(record.confusion)
    return found


def photograph(page: Path) -> bytes:
    """A PNG of the page, light, from its top to the end of its leaderboard. Needs Playwright and Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(
            viewport={"width": WIDTH, "height": 1000}, color_scheme="light", device_scale_factor=SCALE
        )
        opened.goto(page.as_uri())
        seeds = opened.get_by_label("At least")
        seeds.fill(str(SEEDS))
        seeds.blur()
        end = opened.locator("table").first.evaluate("it => it.getBoundingClientRect().bottom + window.scrollY")
        taken: bytes = opened.screenshot(
            full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": int(end) + MARGIN}, animations="disabled"
        )
        browser.close()
    return taken


def save(taken: bytes, file: Path = FILE) -> None:
    """Write the picture with 256 colours and the hash of the scores."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Numbers", digest(scores()))
    whole = Image.open(io.BytesIO(taken)).convert("RGB")
    # Not by the median cut: that turns the few pixels of a mark grey. k-means gives the grounds their exact colours.
    small = whole.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    small.save(file, optimize=True, pnginfo=text)


def main() -> int:
    with TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        status = run(["report", "--results", str(ROOT / "results"), "--out", str(site)])
        if status == 0:
            save(photograph(site / PAGE))
    return status


if __name__ == "__main__":
    sys.exit(main())
