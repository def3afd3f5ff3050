"""One file for each kind of panel: what it makes of the series, as HTML."""

from collections.abc import Callable

from dashboards.preview.panels import bargauge, gauge, stat, table, timeseries
from dashboards.preview.panels.drawn import Drawn
from exporter.markup import Markup

KINDS: dict[str, Callable[[Drawn], Markup]] = {
    "bargauge": bargauge.draw,
    "gauge": gauge.draw,
    "stat": stat.draw,
    "table": table.draw,
    "timeseries": timeseries.draw,
}
"""By the type that the JSON of a dashboard names."""
