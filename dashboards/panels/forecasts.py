"""Forecasts of runs and their prediction intervals."""

from collections.abc import Sequence
from typing import Any

from panels.queries import RUN_BY_NODE

EXPECTED, LEAST, MOST = "forecast", "forecast, lower bound", "forecast, upper bound"
"""Names of the lines; the last two bound a band."""
COLOR = {"id": "color", "value": {"mode": "fixed", "fixedColor": "yellow"}}
BARE = {"id": "custom.lineWidth", "value": 0}


def expected(quantity: str, where: str, by: str = "", over_nodes: str = "sum") -> str:
    """Forecast over the nodes on which the runs report progress."""
    return _over(over_nodes, by, f"emissions_run_forecast_{quantity}", where)


def bound(end: str, quantity: str, where: str, by: str = "", over_nodes: str = "sum") -> str:
    """The `low` or `high` bound of the forecast; absent unless all summed forecasts have one."""
    series, of_end = f"emissions_run_forecast_bound_{quantity}", f'{where},bound="{end}"'
    ranged = _over("count", by, series, of_end)
    every = f"{ranged} == {expected(quantity, where, by, 'count')}"
    return f"{_over(over_nodes, by, series, of_end)} and ({every})"


def band() -> Sequence[dict[str, Any]]:
    """Style of the three lines: the prediction interval is an area behind the forecast."""
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
    return f"{operation}{grouping}(max by ({RUN_BY_NODE}) ({series}{{{where}}}))"


def _line(name: str, *properties: dict[str, Any]) -> dict[str, Any]:
    return {"matcher": {"id": "byName", "options": name}, "properties": list(properties)}
