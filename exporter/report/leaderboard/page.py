"""Leaderboard as one HTML page without scripts: plots, ranking, and notes on comparing runs."""

import base64
from collections.abc import Sequence
from pathlib import Path

from exporter import formatting
from exporter.html import Markup, concatenate, escape, tag
from exporter.report.leaderboard import formats
from exporter.report.leaderboard.board import Leaderboard
from exporter.report.leaderboard.plots import (
    DARK,
    LIGHT,
    NARROW_INCHES,
    WIDE_INCHES,
    Plot,
    render_svg,
)

STYLE = Path(__file__).with_name("style.css")
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Forbids scripts and external resources, in case a run's name contains markup."""
PAGE_HEAD = (
    '<meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_SECURITY_POLICY}">'
)


NARROW_SCREEN, DARK_SCHEME = "(max-width: 43.99rem)", "(prefers-color-scheme: dark)"
PICTURE_VARIANTS = (
    (f"{NARROW_SCREEN} and {DARK_SCHEME}", DARK, NARROW_INCHES),
    (NARROW_SCREEN, LIGHT, NARROW_INCHES),
    (DARK_SCHEME, DARK, WIDE_INCHES),
)
"""Media query, theme and width of alternative pictures of a plot; default is light and wide."""


def render_page(board: Leaderboard, plots: Sequence[Plot], made: float, version: str) -> str:
    """Render a self-contained page. `made` is the current time in seconds since the epoch."""
    style = Markup(STYLE.read_text(encoding="utf-8"))
    head = tag("head", Markup(PAGE_HEAD), tag("title", "Leaderboard of runs"), tag("style", style))
    body = tag(
        "body",
        tag("header", tag("h1", "Leaderboard"), tag("p", formats.title(board) if board.of else "")),
        tag("main", *_sections(board, plots)),
        tag("footer", f"emissions-exporter {version}, {formatting.timestamp(made)} UTC"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _sections(board: Leaderboard, plots: Sequence[Plot]) -> list[Markup]:
    if not board.rows:
        return [tag("p", *(board.notes or (formats.NO_RUNS,)))]
    first = [_picture(plot) for plot in plots if plot.name == "results"]
    others = [_picture(plot) for plot in plots if plot.name != "results"]
    return [*first, _table(board), _notes(board), *others]


def _picture(plot: Plot) -> Markup:
    """Render a plot with SVG variants for narrow screens and dark mode."""
    sources = [
        Markup(f'<source media="{media}" srcset="{_data(render_svg(plot, theme, inches))}">')
        for media, theme, inches in PICTURE_VARIANTS
    ]
    image = f'<img src="{_data(render_svg(plot, LIGHT))}" alt="{escape(plot.title)}">'
    return _section(plot.title, tag("picture", *sources, Markup(image)), tag("p", plot.caption))


def _data(document: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(document).decode()}"


def _table(board: Leaderboard) -> Markup:
    found = formats.columns(board)
    heads = [tag("th", c.head, scope="col", class_="n" if c.is_number else "") for c in found]
    rows = [
        tag(
            "tr",
            *[
                tag("td", c.cells[index], class_=_class(c, c.cells[index]), data_head=c.head)
                for c in found
            ],
            class_="best" if row.is_pareto_optimal else "",
        )
        for index, row in enumerate(board.rows)
    ]
    whole = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return _section("Ranking", tag("div", whole, class_="scroll"))


def _class(column: formats.Column, text: str) -> str:
    """Return the CSS classes of a cell; unknown values get "none", which hides them if narrow."""
    kinds = ("n" if column.is_number else "", column.kind if column.kind != "n" else "")
    nothing = text in ("", formatting.UNKNOWN) and column.kind != "rank"
    return " ".join(kind for kind in (*kinds, "none" if nothing else "") if kind)


def _notes(board: Leaderboard) -> Markup:
    return _section("Before comparing", tag("ul", *(tag("li", note) for note in board.notes)))


def _section(title: str, *children: str) -> Markup:
    return tag("section", tag("h2", title), concatenate(*children))
