"""Record as an appendix in HTML: one self-contained file without scripts."""

from collections.abc import Iterator, Mapping
from typing import Any

from exporter.html import Markup, tag
from exporter.report.appendix import appendix
from exporter.report.document import Document, Section, Table
from exporter.report.leaderboard.page import PAGE_HEAD

STYLE = Markup(
    "body{margin:0 auto;padding:1.5rem 1.25rem 3rem;max-width:50rem;"
    "font:16px/1.5 system-ui,sans-serif;font-variant-numeric:tabular-nums}"
    "h1{font-size:1.5rem}h2{margin:2rem 0 .5rem;font-size:1.1rem}"
    "dl{margin:0;display:grid;grid-template-columns:minmax(6rem,11rem) 1fr;gap:.25rem 1rem}"
    "dt{font-weight:600}dt::first-letter{text-transform:uppercase}dd{margin:0}"
    "h1,p,dt,dd{overflow-wrap:anywhere}td{overflow-wrap:break-word}"
    "td:last-child:not(.n){min-width:12rem}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;min-width:100%}"
    "th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid #8886;text-align:left;"
    "vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}"
    "dl+.scroll,.scroll+ul{margin-top:.75rem}"
    "@media(max-width:38rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}"
    "thead{display:none}tr{display:grid;grid-template-columns:1fr 1fr;gap:.3rem 1rem;"
    "padding:.5rem 0;border-bottom:1px solid #8886}"
    "tbody td,td.n{border:0;padding:0;text-align:left;white-space:normal}"
    "td:first-child,td:last-child:not(.n){grid-column:1/-1}td:first-child{font-weight:600}"
    "td:not(:first-child)::before{content:attr(data-head);display:block;font-size:.8em;"
    "opacity:.75}}"
)


def write(record: Mapping[str, Any]) -> str:
    """Render the appendix of a record."""
    return render(appendix(record))


def render(document: Document) -> str:
    """Render a document as a complete page."""
    head = tag("head", Markup(PAGE_HEAD), tag("title", document.title), tag("style", STYLE))
    sections = [
        tag("section", tag("h2", each.title), *_section(each)) for each in document.sections
    ]
    article = tag("article", tag("h1", document.title), tag("p", document.summary), *sections)
    return f"<!doctype html>\n{tag('html', head, tag('body', article), lang='en')}"


def _section(section: Section) -> Iterator[Markup]:
    if section.facts:
        pairs = [
            tag(*pair) for fact in section.facts for pair in zip(("dt", "dd"), fact, strict=True)
        ]
        yield tag("dl", *pairs)
    if section.table:
        yield tag("div", _table(section.table), class_="scroll")
    if section.notes:
        yield tag("ul", *(tag("li", note) for note in section.notes))


def _table(table: Table) -> Markup:
    kinds = ["n" if column in table.numeric_columns else "" for column in range(len(table.head))]
    heads = [tag("th", c, scope="col", class_=k) for c, k in zip(table.head, kinds, strict=True)]
    rows = [
        tag(
            "tr",
            *(
                tag("td", cell, class_=kind, data_head=head)
                for cell, kind, head in zip(row, kinds, table.head, strict=True)
            ),
        )
        for row in table.rows
    ]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows))
