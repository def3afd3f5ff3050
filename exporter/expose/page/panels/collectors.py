"""Which sources work."""

from collections.abc import Sequence

from exporter import human
from exporter.expose.page.table import Cell, bold, number, table, verdict
from exporter.markup import Markup
from exporter.model.workload import CollectorState


def collectors(states: Sequence[CollectorState]) -> Markup:
    """Which sources work, and what to do about those that do not."""
    rows = [
        (
            bold(state.name),
            verdict("works" if state.ok else "does not work", ok=state.ok),
            number(human.duration(state.seconds)),
            Cell(state.why, class_="prose"),
        )
        for state in states
    ]
    return table("Collectors", ("Collector", "State", ">Took", "Remark"), rows, "None is on.")
