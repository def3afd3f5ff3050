"""Building blocks of the dashboards: panels of grafanalib with defaults, rows and boards."""

from panels.annotations import alerts, runs_begin, runs_end
from panels.board import board
from panels.kinds import bars, graph, number, ranking, table
from panels.layout import Row
from panels.links import LEADERBOARD, NODE, RUN
from panels.queries import (
    ALERTS,
    JOULES_PER_KWH,
    NODES,
    RUN_BY,
    RUN_BY_NODE,
    gained,
    latest,
    named,
    query,
    short_id,
    top,
)
from panels.variables import choice, kind, nodes, variable

__all__ = [
    "ALERTS",
    "JOULES_PER_KWH",
    "LEADERBOARD",
    "NODE",
    "NODES",
    "RUN",
    "RUN_BY",
    "RUN_BY_NODE",
    "Row",
    "alerts",
    "bars",
    "board",
    "choice",
    "gained",
    "graph",
    "kind",
    "latest",
    "named",
    "nodes",
    "number",
    "query",
    "ranking",
    "runs_begin",
    "runs_end",
    "short_id",
    "table",
    "top",
    "variable",
]
