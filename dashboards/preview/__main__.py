"""Draws the dashboards, from a made-up cluster or from any Prometheus.

python -m dashboards.preview
python -m dashboards.preview --url http://prometheus:9090 --range 6h --dashboard FILE --out DIR
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dashboards.preview.page import WIDTH, page
from dashboards.preview.picture import chromium, draw
from dashboards.preview.queries import Prometheus, Unanswered
from dashboards.preview.span import Span, seconds

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "dashboards" / "generated"
HISTORY_SECONDS = 75
"""Of the made-up cluster: enough for its waves to be seen."""
SCENE_SCRAPE_SECONDS = 1
SCENE_RULES_SECONDS = 2
SCENE_PREFERRED = {"run": "llm-pretrain"}
"""Where a dashboard asks for one run: it has all that there is to show."""


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
        if options.url:
            now = time.time()
            try:
                Prometheus(options.url).latest("vector(1)", now)
            except Unanswered as error:
                parser.error(str(error))
            span = Span(now - options.range, now, options.scrape_interval)
            url = options.url
        else:
            url, span = _made_up(ends)
        options.out.mkdir(parents=True, exist_ok=True)
        for path in boards:
            board = json.loads(path.read_text(encoding="utf-8"))
            picture = options.out / f"{path.stem}.png"
            chosen = _preferred(board, {} if options.url else SCENE_PREFERRED) | dict(options.var)
            draw(browser, page(board, Prometheus(url), span, chosen), WIDTH, picture)
            print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")
    return 0


def _made_up(ends: ExitStack) -> tuple[str, Span]:
    """The address of a Prometheus with a history, which goes when `ends` does."""
    from tests.dashboards.scene import scene

    directory = Path(ends.enter_context(tempfile.TemporaryDirectory()))
    live = ends.enter_context(scene(directory))
    start = time.time()
    live.ready()
    time.sleep(max(0.0, start + HISTORY_SECONDS - time.time()))
    return live.url, Span(start, time.time(), SCENE_SCRAPE_SECONDS, SCENE_RULES_SECONDS)


def _preferred(board: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
    """Those of its variables that cannot be "All"."""
    single = {each["name"] for each in board["templating"]["list"] if not each["includeAll"]}
    return {name: value for name, value in values.items() if name in single}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="preview", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", help="a Prometheus; without it a made-up cluster is started")
    parser.add_argument("--range", type=_duration, default="1h", help="with --url; 1h by default")
    parser.add_argument("--scrape-interval", type=_duration, default="15s", help="of that")
    parser.add_argument("--dashboard", type=Path, action="append", help="a file; else all of them")
    parser.add_argument("--var", type=_choice, action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "previews")
    return parser


def _duration(text: str) -> float:
    if not seconds(text):
        raise argparse.ArgumentTypeError(f"{text} is no duration, as 90s or 6h is")
    return seconds(text)


def _choice(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text} has no =, as instance=gpu-1 has")
    return name, value


if __name__ == "__main__":
    raise SystemExit(main())
