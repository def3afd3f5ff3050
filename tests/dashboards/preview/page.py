"""A dashboard as one HTML page, variables above the grid of panels, and as a PNG."""

import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from exporter.html import Markup, tag
from tests.dashboards.preview.formatting import field
from tests.dashboards.preview.panel_data import PanelData
from tests.dashboards.preview.prometheus import (
    Prometheus,
    QueryError,
    Series,
    Span,
    duration,
    with_names,
)
from tests.dashboards.preview.table import draw_table
from tests.dashboards.preview.timeseries import draw_timeseries
from tests.dashboards.preview.values import draw_bargauge, draw_gauge, draw_stat
from tests.dashboards.preview.variables import (
    Marks,
    Variable,
    displayed,
    marks,
    resolve,
    substituted,
)

WIDTH = 1200
"""Of the page in pixels."""
COLUMN, LINE, GAP = WIDTH / 24, 30.0, 8.0
HEAD = 34.0
"""Height of a panel's title."""
STYLE = Path(__file__).with_name("style.css")


PANEL_TYPES: dict[str, Callable[[PanelData], Markup]] = {
    "bargauge": draw_bargauge,
    "gauge": draw_gauge,
    "stat": draw_stat,
    "table": draw_table,
    "timeseries": draw_timeseries,
}
"""By the type that the JSON of a dashboard names."""


@dataclass(frozen=True)
class View:
    """What all panels of one page share."""

    api: Prometheus
    span: Span
    variables: Mapping[str, Variable]
    marks: Sequence[Marks]


def page(
    board: Mapping[str, Any], api: Prometheus, span: Span, chosen: Mapping[str, str]
) -> Markup:
    """The whole page; a failed query is shown in its own panel."""
    variables = resolve(board, api, span, chosen)
    view = View(api, span, variables, marks(board, api, span, variables))
    style = Markup(STYLE.read_text(encoding="utf-8"))
    html = tag(
        "html",
        tag("head", tag("title", board["title"]), tag("style", style)),
        tag(
            "body",
            _top(board, view),
            tag("main", *(_panel(each, view) for each in board["panels"])),
        ),
    )
    return Markup(f"<!doctype html>{html}")


def _top(board: Mapping[str, Any], view: View) -> Markup:
    chosen = [
        tag("span", tag("b", each.label), each.text, class_="choice")
        for each in view.variables.values()
        if not each.hidden
    ]
    marked = [
        tag("span", tag("i", style=f"border-color:{each.colour}"), f"{each.name} {each.error}")
        for each in view.marks
    ]
    length = duration(round(view.span.seconds))
    return tag(
        "header",
        tag("h1", board["title"]),
        tag("span", "Preview, drawn without Grafana", class_="preview"),
        tag("div", *chosen, *marked, tag("span", f"Last {length}", class_="choice length")),
    )


def _panel(panel: Mapping[str, Any], view: View) -> Markup:
    place = panel["gridPos"]
    area = f"grid-area:{place['y'] + 1}/{place['x'] + 1}/span {place['h']}/span {place['w']}"
    title = displayed(panel.get("title") or "", view.variables)
    if panel["type"] == "row":
        return tag("h2", title, style=area)
    hints = [tag("i", "i")] if panel.get("description") else []
    try:
        body = _body(panel, _answers(panel, view), view)
    except QueryError as reason:
        body = tag("p", str(reason), class_="error")
    return tag("section", tag("h3", title, *hints), tag("div", body, class_="body"), style=area)


def _answers(panel: Mapping[str, Any], view: View) -> list[Series]:
    found: list[Series] = []
    for target in panel["targets"]:
        least = target.get("interval") or ""
        step = view.span.step_seconds(least)
        expr = substituted(target["expr"], view.span.builtins(least), view.variables)
        answer = (
            view.api.latest(expr, view.span.end)
            if target.get("instant")
            else view.api.over(expr, view.span, step)
        )
        found += with_names(answer, target.get("legendFormat") or "", expr, target["refId"])
    return found


def _body(panel: Mapping[str, Any], found: Sequence[Series], view: View) -> Markup:
    if panel["type"] not in PANEL_TYPES:
        raise QueryError(f"the preview does not draw panels of type {panel['type']}")
    if not found:
        return tag("p", field(panel, "").text(None) or "No data", class_="nothing")
    place = panel["gridPos"]
    width = place["w"] * COLUMN - GAP - 18
    height = place["h"] * (LINE + GAP) - GAP - HEAD - 8
    leasts = [target.get("interval") or "" for target in panel["targets"]]
    step = view.span.step_seconds(leasts[0])
    return PANEL_TYPES[panel["type"]](
        PanelData(panel, found, view.span, step, width, height, view.marks)
    )


PICTURE_PIXELS = 1800
PICTURE_COLOURS = 64
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


def save_picture(browser: Browser, html: str, width: int, path: Path) -> None:
    """Write one page of this width as a picture."""
    page = browser.new_page(
        viewport={"width": width, "height": 100}, device_scale_factor=PICTURE_PIXELS / width
    )
    page.set_content(html)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    page.close()
    # Of all ways the one that keeps the colours of thin lines.
    few = picture.quantize(
        PICTURE_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
    )
    few.save(path, optimize=True)
