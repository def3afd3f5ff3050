"""Tables of the pages, which become lists on narrow screens."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exporter import human
from exporter.markup import Markup, tag, together

NO_MARKS: Mapping[str, str] = {}


class Cell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    remark: str = ""
    class_: str = ""


def table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    nothing: str,
    *,
    above: str = "",
    marks: Sequence[Mapping[str, str]] = (),
) -> Markup:
    """A section with a table, or with a sentence where it has no rows.

    Heads of numbers begin with `>`. Each cell carries its head, for screens that are too narrow
    for a row; the first one is the head of its row. `above` stands between title and table,
    `marks` are attributes of the rows.
    """
    place = title.lower().replace(" ", "-")
    if not rows:
        return tag("section", tag("h2", title), above, tag("p", nothing), id=place)
    names = [text.removeprefix(">") for text in heads]
    head = [
        tag("th", name, scope="col", class_="n" if text[0] == ">" else "")
        for name, text in zip(names, heads, strict=True)
    ]
    body = [
        tag("tr", *_cells(names, row), **attributes)
        for row, attributes in zip(rows, marks or [NO_MARKS] * len(rows), strict=True)
    ]
    whole = tag(
        "table",
        tag("caption", title),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    return tag("section", tag("h2", title), above, tag("div", whole, class_="scroll"), id=place)


def _cells(names: Sequence[str], row: Sequence[Cell]) -> list[Markup]:
    first, *others = zip(names, row, strict=True)
    return [
        _cell("th", *first, scope="row"),
        *[_cell("td", name, cell) for name, cell in others],
    ]


def _cell(element: str, head: str, cell: Cell, **attributes: str) -> Markup:
    """An empty cell is left out where there is no row to keep in line."""
    text, remark, class_ = cell
    return tag(
        element,
        text,
        tag("small", remark),
        class_=class_ if text or remark else "none",
        data_head=head,
        **attributes,
    )


def bold(text: str, remark: str = "") -> Cell:
    """What a row is about."""
    return Cell(tag("b", text), remark)


def number(text: str, remark: str = "") -> Cell:
    """A number, or what stands in line with numbers."""
    return Cell(text, remark, "n")


def verdict(text: str, remark: str = "", *, ok: bool) -> Cell:
    """Whether something is well."""
    return Cell(text, remark, "good" if ok else "bad")


def bar(part: float, whole: float) -> Cell:
    """A share as a bar and in percent."""
    width = f"{min(100.0, 100 * part / whole):.1f}" if whole else "0"
    drawing = tag(
        "svg",
        tag("rect", width=width, height="4"),
        class_="bar",
        viewBox="0 0 100 4",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return Cell(together(human.share(part, whole), drawing), class_="n")
