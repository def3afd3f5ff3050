"""What runs will have used at their end, and the range of that."""

from collections.abc import Sequence
from typing import Any

OF_A_RUN = "instance, run_id, job_id"
EXPECTED, LEAST, MOST = "forecast", "forecast, at least", "forecast, at most"
"""Names of the lines; the last two are the edges of a band."""
COLOR = {"id": "color", "value": {"mode": "fixed", "fixedColor": "yellow"}}
BARE = {"id": "custom.lineWidth", "value": 0}


def expected(quantity: str, where: str, by: str = "", over_nodes: str = "sum") -> str:
    """What is expected, over the nodes on which runs say how far they are."""
    return _over(over_nodes, by, f"emissions_run_forecast_{quantity}", where)


def bound(end: str, quantity: str, where: str, by: str = "", over_nodes: str = "sum") -> str:
    """The `low` or `high` end of its range; there only where all that is expected has one."""
    series, of_end = f"emissions_run_forecast_bound_{quantity}", f'{where},bound="{end}"'
    ranged = _over("count", by, series, of_end)
    every = f"{ranged} == {expected(quantity, where, by, 'count')}"
    return f"{_over(over_nodes, by, series, of_end)} and ({every})"


def band() -> Sequence[dict[str, Any]]:
    """How the three lines look: the range is an area behind what is expected."""
    return [
        _line(EXPECTED, COLOR),
        _line(LEAST, COLOR, BARE),
        _line(
            MOST,
            COLOR,
            BARE,
            {"id": "custom.fillBelowTo", "value": LEAST},
            {"id": "custom.fillOpacity", "value": 20},
        ),
    ]


def _over(operation: str, by: str, series: str, where: str) -> str:
    grouping = f" by ({by}) " if by else ""
    return f"{operation}{grouping}(max by ({OF_A_RUN}) ({series}{{{where}}}))"


def _line(name: str, *properties: dict[str, Any]) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": name}, "properties": list(properties)}
