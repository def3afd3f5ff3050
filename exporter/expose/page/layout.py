"""The frame of every page, its content security policy, and static files."""

from collections.abc import Mapping
from pathlib import Path

from exporter import __version__
from exporter.html import Markup, concatenate, tag

HTML_TYPE = "text/html; charset=utf-8"
PAGE_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Forbids inline scripts and styles, and everything from other origins."""
PRODUCT = "emissions-exporter"
STATIC_DIRECTORY = Path(__file__).parent / "static"
STATIC_TYPES = {
    "live.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HOME_ROOT, RUN_PAGE_ROOT = "./", "../"
"""Relative paths from the page of the node, and from a page below it, to the page of the node.

Relative, so that they are valid behind any reverse proxy.
"""
METRICS_PATH = "/metrics"
LINKS = ("/api/v1/runs", "/api/v1/devices", "/api/v1/intensity", "/api/v1/snapshot")
REFRESH_SECONDS = 5.0
NOSCRIPT_REFRESH_SECONDS = 30.0
"""Without scripts the whole page reloads and loses typed text, so it reloads more slowly."""


def static_files() -> Mapping[str, bytes]:
    """Return the static files by name."""
    return {name: (STATIC_DIRECTORY / name).read_bytes() for name in STATIC_TYPES}


def page_document(
    title: str,
    main: Markup,
    root: str,
    period_seconds: float = 0.0,
    telemetry_path: str = METRICS_PATH,
) -> bytes:
    """Render a page.

    The page refreshes every `period_seconds`, more slowly without scripts; 0 disables this. `root`
    is the relative path to the page of the node, `telemetry_path` the path of the metrics.
    """
    period = f"{period_seconds:.0f}" if period_seconds else ""
    noscript_period = f"{max(period_seconds, NOSCRIPT_REFRESH_SECONDS):.0f}"
    refresh = Markup(f'<meta http-equiv="refresh" content="{noscript_period}">')
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<link rel="icon" href="{root}static/icon.svg">'),
        Markup(f'<link rel="stylesheet" href="{root}static/live.css">'),
        Markup(f'<script src="{root}static/live.js" defer></script>'),
        *([tag("noscript", refresh)] if period else []),
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


def error_page(status: int, reason: str, root: str, telemetry_path: str = METRICS_PATH) -> bytes:
    """Render an error page; with status 503 it refreshes."""
    main = concatenate(
        tag("header", tag("h1", "Not available yet" if status == 503 else "Not found")),
        tag("p", reason),
        tag("p", tag("a", "Back to the node", href=root)),
    )
    period_seconds = REFRESH_SECONDS if status == 503 else 0.0
    return page_document(reason, main, root, period_seconds, telemetry_path)
