"""What a run logged and counted, and what each of it cost."""

from exporter import human
from exporter.expose.page.table import Cell, bold, number, table
from exporter.markup import Markup
from exporter.model.record import RunRecord

MANY = 1_000
"""What is counted by so many costs too little each to be read."""

MOST_EACH = 1e18
"""Microjoules: 278 MWh. What is counted in such crumbs says nothing of what each of it cost."""


def results(record: RunRecord) -> Markup:
    """Results and counts; nothing where a run told none."""
    run = record.run
    told = [unit.amount for unit in run.units if _is_told(record, unit.amount)]
    energy = human.energy_scale(_per(amount, record.energy_uj) for amount in told)
    carbon = human.carbon_scale(_per(amount, record.carbon_ng) for amount in told)
    counts = [
        (
            bold(unit.name, "counted"),
            number(human.number(unit.amount)),
            *_each(record, unit.amount, energy, carbon),
        )
        for unit in run.units
    ]
    logged = [
        (bold(name, "logged"), number(_value(value)), number(""), number(""))
        for name, value in run.logged
    ]
    if not counts and not logged:
        return Markup("")
    heads = ("Result", ">Value", ">Energy", ">Emissions")
    return table("Results and counts", heads, [*counts, *logged], "")


def _value(value: float | str) -> str:
    return value if isinstance(value, str) else human.told(value)


def _is_told(record: RunRecord, amount: float) -> bool:
    return amount * MOST_EACH > record.energy_uj


def _per(amount: float, whole: int) -> int:
    """Microjoules or nanograms of each of what was counted, or of each 1,000."""
    return round((MANY if amount >= MANY else 1) * whole / amount)


def _each(
    record: RunRecord, amount: float, energy: human.Scale, carbon: human.Scale
) -> tuple[Cell, Cell]:
    if not _is_told(record, amount):
        return number(human.UNKNOWN), number(human.UNKNOWN)
    said = f"per {human.number(MANY)}" if amount >= MANY else "each"
    return (
        number(energy.text(_per(amount, record.energy_uj)), said),
        number(carbon.text(_per(amount, record.carbon_ng)), said),
    )
