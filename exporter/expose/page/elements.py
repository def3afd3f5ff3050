"""Tables of the pages, which become lists on narrow screens."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter import formatting
from exporter.html import Markup, concatenate, tag
from exporter.model.ledger import FactorUse
from exporter.model.readings import Method
from exporter.model.snapshot import AccountSnapshot
from exporter.model.workload import AttributionTarget

NO_ATTRIBUTES: Mapping[str, str] = {}


class TableCell(NamedTuple):
    """What stands in one place of a table."""

    text: str
    remark: str = ""
    class_: str = ""


def table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[TableCell]],
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
        for row, attributes in zip(rows, marks or [NO_ATTRIBUTES] * len(rows), strict=True)
    ]
    whole = tag(
        "table",
        tag("caption", title),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    return tag("section", tag("h2", title), above, tag("div", whole, class_="scroll"), id=place)


def _cells(names: Sequence[str], row: Sequence[TableCell]) -> list[Markup]:
    first, *others = zip(names, row, strict=True)
    return [
        _cell("th", *first, scope="row"),
        *[_cell("td", name, cell) for name, cell in others],
    ]


def _cell(element: str, head: str, cell: TableCell, **attributes: str) -> Markup:
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


def row_header(text: str, remark: str = "") -> TableCell:
    """What a row is about."""
    return TableCell(tag("b", text), remark)


def number_cell(text: str, remark: str = "") -> TableCell:
    """A number, or what stands in line with numbers."""
    return TableCell(text, remark, "n")


def status_cell(text: str, remark: str = "", *, ok: bool) -> TableCell:
    """Whether something is well."""
    return TableCell(text, remark, "good" if ok else "bad")


def share_bar(part: float, whole: float) -> TableCell:
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
    return TableCell(concatenate(formatting.percentage(part, whole), drawing), class_="n")


def summary_item(label: str, value: str, *remarks: str, drawing: str = "") -> Markup:
    """A number with its name, and with what is to be known before it is believed."""
    lines = [tag("small", remark) for remark in remarks if remark]
    return tag("div", tag("h2", label), tag("b", value), *lines, drawing)


def summary_panel(*each: Markup) -> Markup:
    """Numbers side by side."""
    return tag("section", *each, class_="figures")


METHOD_DESCRIPTIONS = {
    Method.COUNTER: "read from the hardware's own energy counter",
    Method.INTEGRATED: "power readings summed up over time",
    Method.ESTIMATED: "no reading could be had: a model of the hardware, not a measurement",
}


def estimated_note(part: float, whole: float) -> str:
    """How much of a number is estimated; nothing where nothing is."""
    if not part:
        return ""
    return warning_note(
        "estimated" if part >= whole else f"{formatting.percentage(part, whole)} estimated"
    )


def unconverted_note(uses: Iterable[FactorUse]) -> str:
    """How much energy is not in the grams yet; nothing where all is."""
    waiting_uj = sum(use.energy_uj for use in uses if use.factor is None)
    return (
        warning_note(f"without {formatting.energy(waiting_uj)} of no known intensity")
        if waiting_uj
        else ""
    )


def estimated_energy(rows: Iterable[AccountSnapshot]) -> Mapping[AttributionTarget, int]:
    """Microjoules that were estimated, by whose they are."""
    sums: dict[AttributionTarget, int] = defaultdict(int)
    for row in rows:
        if row.method is Method.ESTIMATED:
            sums[row.target] += row.balance.total.energy_uj
    return sums


def warning_note(text: str) -> Markup:
    """A remark that a reader should not miss."""
    return tag("span", text, class_="doubt")


def method_label(how: Method) -> Markup:
    """How an energy was got, in a word."""
    return warning_note(how) if how is Method.ESTIMATED else tag("span", how)
