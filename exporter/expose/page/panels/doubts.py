"""What is not measured, or not converted yet, said right at the number."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from exporter import human
from exporter.markup import Markup, tag
from exporter.model.books import FactorUse
from exporter.model.readings import Method
from exporter.model.snapshot import Row
from exporter.model.workload import Party

HOW = {
    Method.COUNTER: "read from the hardware's own energy counter",
    Method.INTEGRATED: "power readings summed up over time",
    Method.ESTIMATED: "no reading could be had: a model of the hardware, not a measurement",
}


def estimated(part: float, whole: float) -> str:
    """How much of a number is estimated; nothing where nothing is."""
    if not part:
        return ""
    return doubt("estimated" if part >= whole else f"{human.share(part, whole)} estimated")


def unpriced(uses: Iterable[FactorUse]) -> str:
    """How much energy is not in the grams yet; nothing where all is."""
    waiting_uj = sum(use.energy_uj for use in uses if use.factor is None)
    return doubt(f"without {human.energy(waiting_uj)} of no known intensity") if waiting_uj else ""


def estimates(rows: Iterable[Row]) -> Mapping[Party, int]:
    """Microjoules that were estimated, by whose they are."""
    sums: dict[Party, int] = defaultdict(int)
    for row in rows:
        if row.method is Method.ESTIMATED:
            sums[row.party] += row.balance.total.energy_uj
    return sums


def doubt(text: str) -> Markup:
    """A remark that a reader should not miss."""
    return tag("span", text, class_="doubt")


def method(how: Method) -> Markup:
    """How an energy was got, in a word."""
    return doubt(how) if how is Method.ESTIMATED else tag("span", how)
