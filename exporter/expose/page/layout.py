"""The frame of every page, what a browser may do with it, and the files that it brings."""

from collections.abc import Mapping
from pathlib import Path

from exporter import __version__
from exporter.html import Markup, concatenate, tag

HTML_TYPE = "text/html; charset=utf-8"
PAGE_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing inline runs, and nothing comes from elsewhere."""
PRODUCT = "emissions-exporter"
STATIC_DIRECTORY = Path(__file__).parent / "static"
STATIC_TYPES = {
    "live.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HOME_ROOT, RUN_PAGE_ROOT = "./", "../"
"""The way to the first page, from itself and from a page of a run: it holds behind any proxy."""
METRICS_PATH = "/metrics"
LINKS = ("/api/v1/runs", "/api/v1/devices", "/api/v1/intensity", "/api/v1/snapshot")
REFRESH_SECONDS = 5.0
NOSCRIPT_REFRESH_SECONDS = 30.0
"""Where no script runs a page comes again as a whole, and what is typed into it is lost."""


def static_files() -> Mapping[str, bytes]:
    """What the pages bring along, by name."""
    return {name: (STATIC_DIRECTORY / name).read_bytes() for name in STATIC_TYPES}


def page_document(
    title: str,
    main: Markup,
    root: str,
    period_seconds: float = 0.0,
    telemetry_path: str = METRICS_PATH,
) -> bytes:
    """A page. It comes again after `period_seconds`, more slowly where no script runs; 0: never.

    `root` is the way to the first page, `telemetry_path` where the metrics are.
    """
    period = f"{period_seconds:.0f}" if period_seconds else ""
    slowly = f"{max(period_seconds, NOSCRIPT_REFRESH_SECONDS):.0f}"
    again = Markup(f'<meta http-equiv="refresh" content="{slowly}">')
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<link rel="icon" href="{root}static/icon.svg">'),
        Markup(f'<link rel="stylesheet" href="{root}static/live.css">'),
        Markup(f'<script src="{root}static/live.js" defer></script>'),
        *([tag("noscript", again)] if period else []),
        tag("title", f"{title} \u00b7 {PRODUCT}"),
    )
    links = [
        concatenate(" ", tag("a", path, href=root + path.removeprefix("/")))
        for path in (telemetry_path, *LINKS)
    ]
    body = tag(
        "body",
        tag("p", tag("a", PRODUCT, href=root), class_="product"),
        tag("p", id="waiting", role="status"),
        tag("main", main, data_seconds=period),
        tag("footer", f"{PRODUCT} {__version__}", *links),
    )
    html = f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
    return html.encode("utf-8", "replace")


def error_page(status: int, why: str, root: str, telemetry_path: str = METRICS_PATH) -> bytes:
    """A page in the place of one that cannot be shown; it comes again where that may change."""
    main = concatenate(
        tag("header", tag("h1", "Nothing to see here yet" if status == 503 else "Not found")),
        tag("p", why),
        tag("p", tag("a", "to the node", href=root)),
    )
    again = REFRESH_SECONDS if status == 503 else 0.0
    return page_document(why, main, root, again, telemetry_path)
