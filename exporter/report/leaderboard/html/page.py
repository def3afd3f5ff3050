"""The whole page: the ranking, the plot, the bars, and what to know before comparing."""

from pathlib import Path

from exporter import human
from exporter.markup import Markup, tag, together
from exporter.report.leaderboard import words
from exporter.report.leaderboard.board import Board
from exporter.report.leaderboard.html.bars import grams_bars, unit_bars
from exporter.report.leaderboard.html.bubbles import legend, plot

STYLE = Path(__file__).with_name("style.css")
ALONE = "default-src 'none'; style-src 'unsafe-inline'"
"""No script, and nothing from anywhere else, whatever a name of a run may say."""
HEAD = (
    '<meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta name="color-scheme" content="light dark">'
    f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">'
)


def page(board: Board, made: float, version: str) -> str:
    """One file that needs no other. `made` is now, seconds since the epoch."""
    style = Markup(STYLE.read_text(encoding="utf-8"))
    head = tag("head", Markup(HEAD), tag("title", "Leaderboard of runs"), tag("style", style))
    body = tag(
        "body",
        tag("header", tag("h1", "Leaderboard"), tag("p", words.title(board) if board.of else "")),
        tag("main", *_sections(board)),
        tag("footer", f"emissions-exporter {version}, {human.moment(made)} UTC"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _sections(board: Board) -> list[Markup]:
    asked, rows = board.question, board.rows
    if not rows:
        return [tag("p", *(board.notes or (words.NO_RUNS,)))]
    sections = [_table(board), _notes(board)]
    if drawing := plot(rows, asked):
        text = tag("p", legend(rows, asked))
        sections.insert(0, _section(f"{asked.metric} against CO2eq", drawing, text))
    if bars := grams_bars(rows):
        text = tag(
            "p",
            "Pale: held idle, by its share of the energy. ",
            "What waits for an intensity is not in it.",
        )
        sections.append(_section("CO2eq of each run", tag("ul", *bars, class_="bars"), text))
    if bars := unit_bars(rows, asked):
        title = f"CO2eq {words.per_units(asked)}"
        sections.append(_section(title, tag("ul", *bars, class_="bars")))
    return sections


def _table(board: Board) -> Markup:
    found = words.columns(board)
    heads = [tag("th", c.head, scope="col", class_="n" if c.is_number else "") for c in found]
    rows = [
        tag(
            "tr",
            *[
                tag("td", c.cells[index], class_=_class(c, c.cells[index]), data_head=c.head)
                for c in found
            ],
            class_="best" if row.is_best else "",
        )
        for index, row in enumerate(board.rows)
    ]
    whole = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
    return _section("Ranking", tag("div", whole, class_="scroll"))


def _class(column: words.Column, text: str) -> str:
    """What is unknown is left out where there is no row to keep in line."""
    kinds = ("n" if column.is_number else "", column.kind if column.kind != "n" else "")
    nothing = text in ("", human.UNKNOWN) and column.kind != "rank"
    return " ".join(kind for kind in (*kinds, "none" if nothing else "") if kind)


def _notes(board: Board) -> Markup:
    return _section("Before comparing", tag("ul", *(tag("li", note) for note in board.notes)))


def _section(title: str, *children: str) -> Markup:
    return tag("section", tag("h2", title), together(*children))
