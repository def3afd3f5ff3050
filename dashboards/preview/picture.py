"""HTML to PNG, by the Chromium of this machine."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

PIXELS = 1800
COLOURS = 64
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window; raises FileNotFoundError where there is none."""
    path = shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("no chromium on this machine: `make tools` as root installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def draw(browser: Browser, html: str, width: int, path: Path) -> None:
    """Write one page of this width as a picture."""
    page = browser.new_page(
        viewport={"width": width, "height": 100}, device_scale_factor=PIXELS / width
    )
    page.set_content(html)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    page.close()
    # Of all ways the one that keeps the colours of thin lines.
    few = picture.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
