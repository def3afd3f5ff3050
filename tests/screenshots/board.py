"""`python -m tests.screenshots.board BOARD.html DIRECTORY`: the plots of a leaderboard's page."""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.real.browser import FLAGS

WIDTH = 960
MARGIN = 16
COLOURS = 64
PLOTS = {"accuracy": "svg.wide", "inferences": "ul.bars >> nth=-1"}


def main() -> int:
    """Write the sections that have the bubbles, and the grams per unit, as they are in light."""
    page_file, directory = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    path = shutil.which("chromium")
    if path is None:
        sys.exit("no chromium on this machine: `make tools` as root installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 800}, color_scheme="light", device_scale_factor=1.5
        )
        page.goto(page_file.as_uri())
        for name, inside in PLOTS.items():
            section = page.locator("section", has=page.locator(inside)).last
            box = section.bounding_box()
            assert box is not None
            around = {
                "x": box["x"] - MARGIN,
                "y": box["y"] - MARGIN,
                "width": box["width"] + 2 * MARGIN,
                "height": box["height"] + 2 * MARGIN,
            }
            drawn = page.screenshot(clip=around, full_page=True)
            picture = Image.open(io.BytesIO(drawn)).convert("RGB").quantize(COLOURS)
            picture.save(directory / f"{name}.png", optimize=True)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
