"""What the annotations of a dashboard mark in its graphs: moments, or times from and to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.preview.fields import colour
from dashboards.preview.queries import Prometheus, Unanswered
from dashboards.preview.series import Series, pieces
from dashboards.preview.span import Span
from dashboards.preview.variables import Variable, substituted


@dataclass(frozen=True)
class Marks:
    """Of one annotation: when something began and ended, the same twice for a moment."""

    name: str
    colour: str
    times: frozenset[tuple[float, float]] = frozenset()
    error: str = ""


def marks(
    board: Mapping[str, Any], api: Prometheus, span: Span, variables: Mapping[str, Variable]
) -> list[Marks]:
    """Those of each annotation, in their order; one that fails says why."""
    return [
        _asked(each, api, span, variables)
        for each in board["annotations"]["list"]
        if each.get("expr") and each.get("enable", True)
    ]


def _asked(
    model: Mapping[str, Any], api: Prometheus, span: Span, variables: Mapping[str, Variable]
) -> Marks:
    name, shade = model["name"], colour(model.get("iconColor") or "red")
    step = span.step_seconds(model.get("step") or "")
    try:
        found = api.over(substituted(model["expr"], span.builtins(), variables), span, step)
    except Unanswered as reason:
        return Marks(name, shade, error=str(reason))
    times = _moments(found) if model.get("useValueForTime") else _pieces(found, step)
    seen = frozenset(time for time in times if span.start <= time[0] <= span.end)
    return Marks(name, shade, seen)


def _moments(found: list[Series]) -> Iterator[tuple[float, float]]:
    """Values that are themselves times, in milliseconds."""
    for series in found:
        yield from ((value / 1000, value / 1000) for _, value in series.points)


def _pieces(found: list[Series], step_seconds: float) -> Iterator[tuple[float, float]]:
    """From where a series begins to where it is interrupted."""
    for series in found:
        for piece in pieces(series.points, step_seconds):
            yield piece[0][0], piece[-1][0]
