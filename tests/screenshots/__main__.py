"""`python -m tests.screenshots DIRECTORY`: the page and a run, wide and narrow, light and dark."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.real.browser import FLAGS
from tests.screenshots.scene import TRAINING, scene

WINDOWS = {"desktop": (1000, 1200), "phone": (360, 780)}
SCHEMES = ("light", "dark")


def main() -> int:
    """Write the pictures."""
    directory = Path(sys.argv[1])
    path = shutil.which("chromium")
    if path is None:
        sys.exit("no chromium on this machine: `make tools` as root installs it")
    directory.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as state,
        scene(Path(state)) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for name, address in (("page", url), ("run", f"{url}runs/{TRAINING}")):
            for window in WINDOWS:
                for scheme in SCHEMES:
                    file = directory / f"{name}-{window}-{scheme}.png"
                    _draw(browser, address, window, scheme, file)
        browser.close()
    return 0


def _draw(browser: Browser, url: str, window: str, scheme: str, file: Path) -> None:
    width, height = WINDOWS[window]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type]
        device_scale_factor=2 if window == "phone" else 1,
    )
    page = context.new_page()
    page.goto(url)
    page.reload()  # the charts of the first look were only asked for
    page.wait_for_selector("svg.chart, svg.broad")
    page.screenshot(path=file, full_page="--full" in sys.argv)
    context.close()


if __name__ == "__main__":
    sys.exit(main())
