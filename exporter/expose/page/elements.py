"""HTML elements of the pages; tables become lists on narrow screens."""

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
    """One cell of a table."""

    text: str
    remark: str = ""
    class_: str = ""


def table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[TableCell]],
    empty_text: str,
    *,
    above: str = "",
    marks: Sequence[Mapping[str, str]] = (),
) -> Markup:
    """Build a section with a table, or with `empty_text` if there are no rows.

    Headings of numeric columns begin with `>`. Each cell carries its heading, for screens too
    narrow for a row; the first cell is the heading of its row. `above` is shown between title and
    table, `marks` are HTML attributes of the rows.
    """
    place = title.lower().replace(" ", "-")
    if not rows:
        return tag("section", tag("h2", title), above, tag("p", empty_text), id=place)
    names = [text.removeprefix(">") for text in heads]
    head = [
        tag("th", name, scope="col", class_="n" if text[0] == ">" else "")
        for name, text in zip(names, heads, strict=True)
    ]
    body = [
        tag("tr", *_cells(names, row), **attributes)
        for row, attributes in zip(rows, marks or [NO_ATTRIBUTES] * len(rows), strict=True)
    ]
    table_element = tag(
        "table",
        tag("caption", title),
        tag("thead", tag("tr", *head)),
        tag("tbody", *body),
    )
    return tag(
        "section", tag("h2", title), above, tag("div", table_element, class_="scroll"), id=place
    )


def _cells(names: Sequence[str], row: Sequence[TableCell]) -> list[Markup]:
    first, *others = zip(names, row, strict=True)
    return [
        _cell("th", *first, scope="row"),
        *[_cell("td", name, cell) for name, cell in others],
    ]


def _cell(element: str, head: str, cell: TableCell, **attributes: str) -> Markup:
    """Build a cell. An empty cell is hidden on narrow screens, where rows are lists."""
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
    """Build the heading cell of a row."""
    return TableCell(tag("b", text), remark)


def number_cell(text: str, remark: str = "") -> TableCell:
    """Build a right-aligned cell for a number or its placeholder."""
    return TableCell(text, remark, "n")


def status_cell(text: str, remark: str = "", *, ok: bool) -> TableCell:
    """Build a cell colored by status."""
    return TableCell(text, remark, "good" if ok else "bad")


def share_bar(part: float, total: float) -> TableCell:
    """Build a cell with a share in percent and as a bar."""
    width = f"{min(100.0, 100 * part / total):.1f}" if total else "0"
    drawing = tag(
        "svg",
        tag("rect", width=width, height="4"),
        class_="bar",
        viewBox="0 0 100 4",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    return TableCell(concatenate(formatting.percentage(part, total), drawing), class_="n")


def summary_item(label: str, value: str, *remarks: str, drawing: str = "") -> Markup:
    """Build a number with its name and with remarks that qualify it."""
    lines = [tag("small", remark) for remark in remarks if remark]
    return tag("div", tag("h2", label), tag("b", value), *lines, drawing)


def summary_panel(*each: Markup) -> Markup:
    """Build a row of summary items."""
    return tag("section", *each, class_="figures")


METHOD_DESCRIPTIONS = {
    Method.COUNTER: "read from a hardware energy counter",
    Method.INTEGRATED: "power readings integrated over time",
    Method.ESTIMATED: "modeled, not measured: no energy counter or power sensor could be read",
}


def estimated_note(part: float, total: float) -> str:
    """Return a note on the estimated share of a number; empty if nothing is estimated."""
    if not part:
        return ""
    return warning_note(
        "estimated" if part >= total else f"{formatting.percentage(part, total)} estimated"
    )


def unconverted_note(uses: Iterable[FactorUse]) -> str:
    """Return a note on energy not yet included in the emissions; empty if there is none."""
    unconverted_uj = sum(use.energy_uj for use in uses if use.factor is None)
    return (
        warning_note(f"excludes {formatting.energy(unconverted_uj)} without an intensity")
        if unconverted_uj
        else ""
    )


def emissions_text(carbon_ng: int, uses: Iterable[FactorUse], scale: formatting.DisplayUnit) -> str:
    """Return the emissions as text; unknown, not zero, if no energy has an intensity."""
    converted = {use.factor is not None for use in uses if use.energy_uj}
    return formatting.UNKNOWN if converted == {False} else scale.text(carbon_ng)


def estimated_energy(rows: Iterable[AccountSnapshot]) -> Mapping[AttributionTarget, int]:
    """Return estimated energy in microjoules by attribution target."""
    sums: dict[AttributionTarget, int] = defaultdict(int)
    for row in rows:
        if row.method is Method.ESTIMATED:
            sums[row.target] += row.balance.total.energy_uj
    return sums


def warning_note(text: str) -> Markup:
    """Build a highlighted remark."""
    return tag("span", text, class_="doubt")


def method_label(method: Method) -> Markup:
    """Build the label of a measurement method; estimates are highlighted."""
    return warning_note(method) if method is Method.ESTIMATED else tag("span", method)
