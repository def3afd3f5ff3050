"""Builders of panels."""

from collections.abc import Mapping, Sequence
from typing import Any

from grafanalib import core

from panels.queries import DATA_SOURCE, lettered, refs

ORANGE, RED = "orange", "red"
"""Colors for warnings and errors; not used for anything else."""


def graph(
    title: str,
    unit: str,
    description: str,
    *targets: core.Target,
    stacked: bool = False,
    link: str = "",
    **options: Any,
) -> core.TimeSeries:
    """Build a line chart; `stacked` for parts of a sum. `link` is the URL of a point."""
    defaults = {"links": [{"title": "Open", "url": link}]} if link else {}
    return core.TimeSeries(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=lettered(targets),
        unit=unit,
        editable=False,
        maxDataPoints=None,
        **{
            "fillOpacity": 25 if stacked else 0,
            "stacking": {"mode": "normal", "group": "A"} if stacked else {},
            "showPoints": "never",
            "legendDisplayMode": "table",
            "legendPlacement": "right",
            "legendCalcs": ["lastNotNull"],
            "tooltipMode": "multi",
            "tooltipSort": "desc",
            "axisSoftMin": 0,
            "extraJson": {"fieldConfig": {"defaults": defaults}},
            **options,
        },
    )


def bars(
    title: str, unit: str, description: str, *targets: core.Target, link: str = ""
) -> core.TimeSeries:
    """Build a stacked bar chart of increases per step."""
    return graph(
        title,
        unit,
        description,
        *targets,
        stacked=True,
        link=link,
        drawStyle="bars",
        fillOpacity=70,
        lineWidth=0,
        legendCalcs=["sum"],
    )


def number(
    title: str,
    unit: str,
    description: str,
    target: core.Target,
    *,
    orange_from: float | None = None,
    red_from: float | None = None,
    nothing: str = "unknown",
    **options: Any,
) -> core.Stat:
    """Build a single number with thresholds; `nothing` is the text if there is no value."""
    return core.Stat(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=lettered((target,)),
        format=unit,
        editable=False,
        maxDataPoints=None,
        reduceCalc="lastNotNull",
        graphMode="none",
        noValue=nothing,
        thresholds=_steps(orange_from, red_from),
        extraJson={"fieldConfig": {"defaults": {"color": {"mode": "thresholds"}}}},
        **options,
    )


def ranking(
    title: str, unit: str, description: str, target: core.Target, *, link: str = ""
) -> core.Panel:
    """Build a bar per row of an instant query, in its order."""
    return _Ranking(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=lettered((target,)),
        editable=False,
        maxDataPoints=None,
        unit=unit,
        link=link,
    )


class _Ranking(core.Panel):
    """A bar gauge with `fieldConfig`, which the one of grafanalib does not support."""

    def __init__(self, *, unit: str, link: str, **options: Any) -> None:
        super().__init__(**options)
        self._unit, self._link = unit, link

    def to_json_data(self) -> dict[str, Any]:
        """Return the JSON model of the panel."""
        made: dict[str, Any] = self.panel_json(
            {
                "type": "bargauge",
                "fieldConfig": {
                    "defaults": {
                        "unit": self._unit,
                        "min": 0,
                        "color": {"mode": "fixed", "fixedColor": "text"},
                        "links": [{"title": "Open", "url": self._link}] if self._link else [],
                    },
                    "overrides": [],
                },
                "options": {
                    "displayMode": "basic",
                    "orientation": "horizontal",
                    "showUnfilled": False,
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
                },
            }
        )
        return made


def table(
    title: str,
    description: str,
    columns: dict[str, tuple[str, str]],
    *targets: core.Target,
    sort_by: str = "",
    links: Mapping[str, str] | None = None,
    red_from: Mapping[str, tuple[float, float]] | None = None,
) -> core.Table:
    """Build a table of instant queries, joined on their common labels.

    `columns` maps a field (a label, or `Value #A` of the first query, `#B` of the second, ...)
    to its heading and unit, in order. Values that are not named are hidden; labels are not, so
    a query keeps those that it needs. `links` maps a heading to the address that its cells lead
    to, `red_from` one to where its text turns orange and red.
    """
    for target in targets:
        target.format = "table"
    if len(targets) == 1 and "Value #A" in columns:
        columns = {{"Value #A": "Value"}.get(name, name): what for name, what in columns.items()}
    hidden = [f"Value #{ref}" for ref in refs(len(targets))] + ["Value", "Time"]
    return core.Table(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=lettered(targets),
        editable=False,
        maxDataPoints=None,
        filterable=True,
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {name: True for name in hidden if name not in columns},
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": {name: heading for name, (heading, _) in columns.items()},
                },
            },
        ],
        overrides=[
            _override(heading, unit, (links or {}).get(heading), (red_from or {}).get(heading))
            for heading, unit in columns.values()
        ],
        sortBy=[core.TableSortByField(displayName=sort_by, desc=True)] if sort_by else [],
    )


def _override(
    heading: str, unit: str, link: str | None, colors: tuple[float, float] | None
) -> dict[str, Any]:
    """Build the style of a column."""
    properties: list[dict[str, Any]] = []
    if unit:
        properties.append({"id": "unit", "value": unit})
    if link:
        properties.append({"id": "links", "value": [{"title": "Open", "url": link}]})
    if colors:
        steps = {"mode": "absolute", "steps": _steps(*colors)}
        properties.append({"id": "thresholds", "value": steps})
        properties.append({"id": "color", "value": {"mode": "thresholds"}})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"matcher": {"id": "byName", "options": heading}, "properties": properties}


def _steps(orange_from: float | None, red_from: float | None) -> Sequence[dict[str, object]]:
    ends = ((ORANGE, orange_from), (RED, red_from))
    return [
        {"color": "text", "value": None},
        *({"color": color, "value": value} for color, value in ends if value is not None),
    ]
