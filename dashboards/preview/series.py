"""What a query answers: series with names, as a legend shows them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

PLACEHOLDER = re.compile(r"\{\{\s*([^}\s]+)\s*\}\}")


@dataclass(frozen=True)
class Series:
    """Values over time, at unix seconds; `ref` is the query that they answer."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]
    name: str = ""
    ref: str = ""


CALCULATIONS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "lastNotNull": ("Last *", lambda values: values[-1]),
    "mean": ("Mean", fmean),
    "max": ("Max", max),
    "min": ("Min", min),
    "sum": ("Total", sum),
}
"""Heading and rule of what Grafana makes of the values of a series."""


def reduced(series: Series, calculation: str) -> float | None:
    """One number for a series; None where it has no values."""
    values = [value for _, value in series.points]
    return CALCULATIONS[calculation][1](values) if values else None


def pieces(
    points: Sequence[tuple[float, float]], step_seconds: float
) -> list[list[tuple[float, float]]]:
    """Points, cut where one or more are missing."""
    made: list[list[tuple[float, float]]] = []
    for point in points:
        if not made or point[0] - made[-1][-1][0] > 1.5 * step_seconds:
            made.append([])
        made[-1].append(point)
    return made


def named(found: Sequence[Series], legend: str, expr: str, ref: str) -> list[Series]:
    """The series of one query, with the names that its legend format gives them."""
    varied = [
        label
        for label in sorted({label for each in found for label in each.labels})
        if len({each.labels.get(label) for each in found}) > 1
    ]
    return [replace(each, name=_name(each, legend, expr, varied), ref=ref) for each in found]


def _name(series: Series, legend: str, expr: str, varied: Sequence[str]) -> str:
    labels = series.labels
    if legend and legend != "__auto":
        return PLACEHOLDER.sub(lambda found: labels.get(found[1], ""), legend)
    if not labels:
        return expr
    shown = [label for label in labels if label != "__name__"]
    if legend and len(varied or shown) == 1:
        return labels.get((varied or shown)[0], "")
    return (
        labels.get("__name__", "")
        + "{"
        + ", ".join(f'{label}="{labels[label]}"' for label in shown)
        + "}"
    )
