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
    counts = [
        (
            bold(unit.name, "counted"),
            number(human.number(unit.amount)),
            *_each(record, unit.amount),
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


def _each(record: RunRecord, amount: float) -> tuple[Cell, Cell]:
    if amount * MOST_EACH <= record.energy_uj:
        return number(human.UNKNOWN), number(human.UNKNOWN)
    of, said = (MANY, f"per {human.number(MANY)}") if amount >= MANY else (1, "each")
    return (
        number(human.energy(round(of * record.energy_uj / amount)), said),
        number(human.carbon(round(of * record.carbon_ng / amount)), said),
    )
