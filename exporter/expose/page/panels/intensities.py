"""The intensities that a run's energy became grams with."""

from exporter import human
from exporter.expose.page.panels.doubts import doubt
from exporter.expose.page.panels.grid import intensity
from exporter.expose.page.table import Cell, bar, bold, number, table
from exporter.markup import Markup
from exporter.model.books import FactorUse
from exporter.model.record import RunRecord

WAITING = "grams are filled in when an intensity for its time arrives"


def intensities(record: RunRecord) -> Markup:
    """Every intensity that was met, and how much energy in its time."""
    whole = sum(use.energy_uj for use in record.factors)
    energy = human.energy_scale(use.energy_uj for use in record.factors)
    carbon = human.carbon_scale(use.carbon_ng for use in record.factors)
    rows = [(*_factor(use, energy, carbon), bar(use.energy_uj, whole)) for use in record.factors]
    heads = (
        *("Zone", ">Intensity", "Source", "Counts", ">PUE", ">Energy", ">Emissions"),
        ">Of the run",
    )
    return table("Carbon intensity", heads, rows, "None was needed yet.")


def _factor(use: FactorUse, energy: human.Scale, carbon: human.Scale) -> tuple[Cell, ...]:
    factor = use.factor
    amounts = number(energy.text(use.energy_uj)), number(carbon.text(use.carbon_ng))
    if factor is None:
        nothing = Cell(human.UNKNOWN)
        return (bold(doubt("not known"), WAITING), *[nothing] * 4, *amounts)
    fallback = doubt(f"fallback step {factor.step}") if factor.step else ""
    return (
        bold(factor.zone, fallback),
        number(intensity(factor)),
        Cell(factor.source, doubt("estimated") if factor.estimated else "", "prose"),
        Cell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number(f"{factor.pue:g}"),
        *amounts,
    )
