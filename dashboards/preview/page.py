"""A dashboard as one page of HTML: its variables above, its panels on the grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboards.preview.fields import field
from dashboards.preview.marks import Marks, marks
from dashboards.preview.panels import KINDS
from dashboards.preview.panels.drawn import Drawn
from dashboards.preview.queries import Prometheus, Unanswered
from dashboards.preview.series import Series, named
from dashboards.preview.span import Span, duration
from dashboards.preview.variables import Variable, resolve, shown, substituted
from exporter.markup import Markup, tag

WIDTH = 1200
"""Of the page in pixels."""
COLUMN, LINE, GAP = WIDTH / 24, 30.0, 8.0
HEAD = 34.0
"""Height of a panel's title."""
STYLE = Path(__file__).with_name("style.css")


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
    """The whole page; a query that fails is told in its own panel."""
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
    title = shown(panel.get("title") or "", view.variables)
    if panel["type"] == "row":
        return tag("h2", title, style=area)
    hints = [tag("i", "i")] if panel.get("description") else []
    try:
        body = _body(panel, _answers(panel, view), view)
    except Unanswered as reason:
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
        found += named(answer, target.get("legendFormat") or "", expr, target["refId"])
    return found


def _body(panel: Mapping[str, Any], found: Sequence[Series], view: View) -> Markup:
    if panel["type"] not in KINDS:
        raise Unanswered(f"the preview does not draw panels of type {panel['type']}")
    if not found:
        return tag("p", field(panel, "").text(None) or "No data", class_="nothing")
    place = panel["gridPos"]
    width = place["w"] * COLUMN - GAP - 18
    height = place["h"] * (LINE + GAP) - GAP - HEAD - 8
    leasts = [target.get("interval") or "" for target in panel["targets"]]
    step = view.span.step_seconds(leasts[0])
    return KINDS[panel["type"]](Drawn(panel, found, view.span, step, width, height, view.marks))
