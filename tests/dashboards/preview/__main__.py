"""Draw the dashboards of a simulated cluster, as `make preview` does."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.dashboards.preview.page import WIDTH, chromium, page, save_picture
from tests.dashboards.preview.prometheus import Prometheus, Span

ROOT = Path(__file__).resolve().parents[3]
GENERATED = ROOT / "dashboards" / "generated"
HISTORY_SECONDS = 75
"""Length of the simulated history."""
SCENE_SCRAPE_SECONDS = 1
SCENE_RULES_SECONDS = 2
SCENE_PREFERRED = {"run": "llm-pretrain"}
"""The run that has data in every panel."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a PNG for each dashboard; the answer is the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    boards = options.dashboard or sorted(GENERATED.glob("*.json"))
    with ExitStack() as ends:
        try:
            browser = ends.enter_context(chromium())
        except FileNotFoundError as error:
            print(f"preview: {error}", file=sys.stderr)
            return 1
        url, span = _simulated(ends)
        options.out.mkdir(parents=True, exist_ok=True)
        for path in boards:
            board = json.loads(path.read_text(encoding="utf-8"))
            picture = options.out / f"{path.stem}.png"
            chosen = _preferred(board)
            save_picture(browser, page(board, Prometheus(url), span, chosen), WIDTH, picture)
            print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")
    return 0


def _simulated(ends: ExitStack) -> tuple[str, Span]:
    """The address of a Prometheus with a history; `ends` stops it."""
    from tests.dashboards.scene import scene

    directory = Path(ends.enter_context(tempfile.TemporaryDirectory()))
    live = ends.enter_context(scene(directory))
    start = time.time()
    live.ready()
    time.sleep(max(0.0, start + HISTORY_SECONDS - time.time()))
    return live.url, Span(start, time.time(), SCENE_SCRAPE_SECONDS, SCENE_RULES_SECONDS)


def _preferred(board: dict[str, Any]) -> dict[str, str]:
    """Values of the variables that cannot be "All"."""
    single = {each["name"] for each in board["templating"]["list"] if not each["includeAll"]}
    return {name: value for name, value in SCENE_PREFERRED.items() if name in single}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="preview", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--dashboard", type=Path, action="append", help="a file; by default all of them"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "previews")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
