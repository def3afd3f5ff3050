"""Tables of the live page, which become lists on narrow screens."""

from collections.abc import Sequence
from typing import NamedTuple

from exporter import human
from exporter.expose.markup import Markup, tag, together


class Cell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    remark: str = ""
    class_: str = ""


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], nothing: str) -> Markup:
    """A table, or a sentence where it has no rows. Heads of numbers begin with `>`.

    Each cell carries its head, for screens that are too narrow for a row.
    """
    if not rows:
        return tag("section", tag("h2", title), tag("p", nothing))
    names = [text.removeprefix(">") for text in heads]
    head = [
        tag("th", name, scope="col", class_="n" if text[0] == ">" else "")
        for name, text in zip(names, heads, strict=True)
    ]
    body = [
        tag(
            "tr",
            *[
                tag("td", cell.text, tag("small", cell.remark), class_=_class(cell), data_head=name)
                for name, cell in zip(names, row, strict=True)
            ],
        )
        for row in rows
    ]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("section", tag("h2", title), tag("div", whole, class_="scroll"))


def _class(cell: Cell) -> str:
    """An empty cell is left out where there is no row to keep in line."""
    return cell.class_ if cell.text or cell.remark else "none"


def bold(text: str, remark: str = "") -> Cell:
    """What a row is about."""
    return Cell(tag("b", text), remark)


def number(text: str, remark: str = "") -> Cell:
    """A number, or what stands in line with numbers."""
    return Cell(text, remark, "n")


def verdict(text: str, remark: str = "", *, ok: bool) -> Cell:
    """Whether something is well."""
    return Cell(text, remark, "good" if ok else "bad")


def bar(part: int, whole: int) -> Cell:
    """A share as a bar and in percent."""
    width = f"{100 * part / whole:.1f}" if whole else "0"
    drawing = tag(
        "svg",
        tag("rect", width=width, height="4"),
        viewBox="0 0 100 4",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return Cell(together(human.share(part, whole), drawing), class_="n")
