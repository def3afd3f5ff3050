"""Panels of grafanalib with our defaults, laid out row by row."""

from collections.abc import Sequence
from itertools import count
from typing import Any

from grafanalib import core

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODES = 'instance=~"$instance"'
"""The matcher of every query: the nodes that were chosen."""
SCHEMA_VERSION = 39
"""Of Grafana 11; grafanalib would say 12, which Grafana takes for a board of 2016."""
WIDTH = 24

WATTS = "watt"
KILOWATT_HOURS = "kwatth"
GRAMS = "massg"
RATIO = "percentunit"
SECONDS = "s"
GRAMS_PER_KWH = "suffix: g/kWh"
COUNT = "short"
BYTES = "bytes"
DATE = "dateTimeAsIso"


def query(expr: str, legend: str = "__auto") -> core.Target:
    """A query over the time shown."""
    return core.Target(expr=expr, legendFormat=legend, intervalFactor=1, datasource=DATA_SOURCE)


def latest(expr: str, legend: str = "__auto") -> core.Target:
    """A query at the end of the time shown."""
    return core.Target(
        expr=expr, legendFormat=legend, intervalFactor=1, datasource=DATA_SOURCE, instant=True
    )


def graph(
    title: str, unit: str, description: str, *targets: core.Target, stacked: bool = False
) -> core.TimeSeries:
    """Lines over time; `stacked` for parts of a whole."""
    return core.TimeSeries(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=_named(targets),
        unit=unit,
        editable=False,
        maxDataPoints=None,
        fillOpacity=25 if stacked else 0,
        stacking={"mode": "normal", "group": "A"} if stacked else {},
        showPoints="never",
        legendDisplayMode="table",
        legendPlacement="right",
        legendCalcs=["mean", "lastNotNull"],
        tooltipMode="multi",
        tooltipSort="desc",
        axisSoftMin=0,
    )


def number(
    title: str,
    unit: str,
    description: str,
    target: core.Target,
    *,
    red_from: float | None = None,
    **options: Any,
) -> core.Stat:
    """One number; it turns red from `red_from` on."""
    steps: list[dict[str, object]] = [{"color": "text", "value": None}]
    if red_from is not None:
        steps.append({"color": "red", "value": red_from})
    return core.Stat(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=_named((target,)),
        format=unit,
        editable=False,
        maxDataPoints=None,
        reduceCalc="lastNotNull",
        graphMode="none",
        noValue="unknown",
        thresholds=steps,
        extraJson={"fieldConfig": {"defaults": {"color": {"mode": "thresholds"}}}},
        **options,
    )


def states(
    title: str, description: str, texts: Sequence[tuple[str, str]], target: core.Target
) -> core.StateTimeline:
    """0 and 1 over time; `texts` are the word and colour of each."""
    mapping = {
        str(value): {"text": text, "color": color, "index": value}
        for value, (text, color) in enumerate(texts)
    }
    return core.StateTimeline(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=_named((target,)),
        editable=False,
        maxDataPoints=None,
        mappings=[{"type": "value", "options": mapping}],
        extraJson={"fieldConfig": {"defaults": {"unit": "none"}}},
    )


def table(
    title: str,
    description: str,
    columns: dict[str, tuple[str, str]],
    *targets: core.Target,
    sort_by: str = "",
) -> core.Table:
    """Instant queries side by side, joined on the labels that they share.

    `columns` maps a field (a label, or `Value #A` of the first query, `#B` of the second, ...)
    to its heading and unit, in order. Values that are not named are hidden; labels are not, so
    a query keeps those that it needs.
    """
    for target in targets:
        target.format = "table"
    hidden = [f"Value #{ref}" for ref in _refs(len(targets))] + ["Value", "Time"]
    return core.Table(
        title=title,
        description=description,
        dataSource=DATA_SOURCE,
        targets=_named(targets),
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
            {
                "matcher": {"id": "byName", "options": heading},
                "properties": [{"id": "unit", "value": unit}],
            }
            for heading, unit in columns.values()
            if unit
        ],
        sortBy=[core.TableSortByField(displayName=sort_by, desc=True)] if sort_by else [],
    )


class Row:
    """A heading and what stands under it: lines of panels, each as wide as its share."""

    def __init__(self, title: str, *lines: tuple[int, Sequence[core.Panel]]) -> None:
        """Each line is its height in units of the grid, and its panels from left to right."""
        self.title = title
        self.lines = lines


def lay_out(rows: Sequence[Row]) -> list[core.Panel]:
    """All panels with their places and ids; a row without a title has no heading."""
    panels: list[core.Panel] = []
    ids = count(1)
    y = 0
    for row in rows:
        if row.title:
            panels.append(
                core.RowPanel(
                    title=row.title,
                    id=next(ids),
                    editable=False,
                    gridPos=core.GridPos(1, WIDTH, 0, y),
                )
            )
            y += 1
        for height, line in row.lines:
            width = WIDTH // len(line)
            for place, panel in enumerate(line):
                panel.id = next(ids)
                panel.gridPos = core.GridPos(height, width, place * width, y)
                panels.append(panel)
            y += height
    return panels


def board(title: str, uid: str, description: str, rows: Sequence[Row]) -> core.Dashboard:
    """A dashboard that asks for a data source and for nodes, and opens on today."""
    return core.Dashboard(
        title=title,
        uid=uid,
        description=description,
        tags=["emissions"],
        editable=False,
        graphTooltip=core.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
        schemaVersion=SCHEMA_VERSION,
        timezone="browser",
        refresh="1m",
        time=core.Time("now/d", "now"),
        templating=core.Templating([_data_sources(), _nodes()]),
        panels=lay_out(rows),
        links=[
            core.DashboardLink(
                title="More of emissions", tags=["emissions"], asDropdown=True, includeVars=True
            )
        ],
    )


def _data_sources() -> core.Template:
    return core.Template(
        name="datasource", label="Data source", type="datasource", query="prometheus"
    )


def _nodes() -> core.Template:
    return core.Template(
        name="instance",
        label="Node",
        dataSource=DATA_SOURCE,
        query="label_values(emissions_exporter_build_info, instance)",
        refresh=core.REFRESH_ON_TIME_RANGE_CHANGE,
        multi=True,
        includeAll=True,
        allValue=".*",
        default="$__all",
    )


def _named(targets: Sequence[core.Target]) -> list[core.Target]:
    for target, ref in zip(targets, _refs(len(targets)), strict=True):
        target.refId = ref
    return list(targets)


def _refs(length: int) -> str:
    return "ABCDEFGHIJ"[:length]
