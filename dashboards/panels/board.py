"""The frame of a dashboard."""

from collections.abc import Sequence
from typing import Any

from grafanalib import core

from panels.layout import Row, lay_out
from panels.links import TAG, others
from panels.variables import data_sources

SCHEMA_VERSION = 39
"""Schema of Grafana 11; the 12 of grafanalib is treated by Grafana as a dashboard of 2016."""


def board(
    title: str,
    uid: str,
    description: str,
    rows: Sequence[Row],
    variables: Sequence[core.Template] = (),
    annotations: Sequence[dict[str, Any]] = (),
    begins: str = "now-24h",
) -> core.Dashboard:
    """Build a dashboard with a selector of the data source, followed by `variables`.

    Its default time range is from `begins` until now.
    """
    return core.Dashboard(
        title=title,
        uid=uid,
        description=description,
        tags=[TAG],
        editable=False,
        graphTooltip=core.GRAPH_TOOLTIP_MODE_SHARED_CROSSHAIR,
        schemaVersion=SCHEMA_VERSION,
        timezone="browser",
        refresh="1m",
        time=core.Time(begins, "now"),
        templating=core.Templating([data_sources(), *variables]),
        annotations=core.Annotations(list(annotations)),
        panels=lay_out(rows),
        links=[others()],
    )
