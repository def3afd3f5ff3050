"""Questions to a Prometheus-compatible API, and its answers as series."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
PART = re.compile(r"(\d+)(ms|[smhdwy])")
NICE_SECONDS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600),
    *(7200, 10800, 21600, 43200, 86400, 604800),
)
POINTS = 400
"""As many as can be told apart in a panel of half the width."""


def seconds(duration: str) -> float:
    """What a duration of Prometheus or Grafana is in seconds; 0 of one that is not set."""
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in PART.findall(duration))


def duration(seconds: float) -> str:
    """The same the other way round, as Prometheus reads it."""
    return f"{seconds:.0f}s" if seconds >= 1 and seconds % 1 == 0 else f"{seconds * 1000:.0f}ms"


@dataclass(frozen=True)
class Span:
    """From and to in unix seconds, and how often the drawn Prometheus scrapes."""

    start: float
    end: float
    scrape_seconds: float
    rules_seconds: float = 60
    """How often its rules record; a least step in minutes is so many of these."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    def step_seconds(self, least: str = "") -> float:
        """The time between two points, no less than `least`, or else a scrape."""
        wanted = max(self.seconds / POINTS, self._least(least))
        return next((nice for nice in NICE_SECONDS if nice >= wanted), wanted)

    def _least(self, least: str) -> float:
        wanted = seconds(least)
        if wanted >= UNIT_SECONDS["m"]:
            wanted *= self.rules_seconds / UNIT_SECONDS["m"]
        return wanted or self.scrape_seconds

    def aligned(self, step_seconds: float) -> tuple[float, float]:
        """Start and end as Grafana asks for them: on whole steps."""
        ends = (self.start, self.end)
        return (
            math.ceil(ends[0] / step_seconds) * step_seconds,
            math.floor(ends[1] / step_seconds) * step_seconds,
        )

    def builtins(self, least: str = "") -> dict[str, str]:
        """The variables that Grafana sets itself."""
        step, scrape = self.step_seconds(least), self._least(least)
        return {
            "__interval": duration(step),
            "__interval_ms": f"{step * 1000:.0f}",
            "__rate_interval": duration(max(step + scrape, 4 * scrape)),
            "__range": duration(round(self.seconds)),
            "__range_s": f"{self.seconds:.0f}",
            "__range_ms": f"{self.seconds * 1000:.0f}",
            "__from": f"{self.start * 1000:.0f}",
            "__to": f"{self.end * 1000:.0f}",
        }


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


def with_names(found: Sequence[Series], legend: str, expr: str, ref: str) -> list[Series]:
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


TIMEOUT_SECONDS = 60.0


class QueryError(Exception):
    """A query that was refused, or nobody to ask; its text says which, in plain words."""


class Prometheus:
    """The API below `url`; each question raises Unanswered where there is no answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def latest(self, expr: str, at: float) -> list[Series]:
        """Every series of an expression, with its value at one time."""
        rows = self._ask("query", query=expr, time=f"{at:.3f}")["result"]
        return [Series(row["metric"], _points([row["value"]])) for row in rows]

    def over(self, expr: str, span: Span, step_seconds: float) -> list[Series]:
        """Every series of an expression, with a value for each step."""
        start, end = span.aligned(step_seconds)
        rows = self._ask(
            "query_range",
            query=expr,
            start=f"{start:.3f}",
            end=f"{end:.3f}",
            step=f"{step_seconds:g}",
        )["result"]
        return [Series(row["metric"], _points(row["values"])) for row in rows]

    def label_values(self, label: str, selector: str, span: Span) -> list[str]:
        """The values of a label, of the series that match if there is a selector."""
        match = {"match[]": selector} if selector else {}
        times = {"start": f"{span.start:.3f}", "end": f"{span.end:.3f}"}
        return list(self._ask(f"label/{label}/values", **match, **times))

    def _ask(self, path: str, **parameters: str) -> Any:
        body = urllib.parse.urlencode(parameters)
        asked = f"{self.url}/api/v1/{path}?{body}"
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise QueryError(_reason(refusal.read()) or f"HTTP {refusal.code}") from None
        except (OSError, ValueError, KeyError) as error:
            raise QueryError(f"{self.url} does not answer: {error}") from None


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _points(pairs: list[tuple[float, str]]) -> list[tuple[float, float]]:
    points = [(float(at), float(value)) for at, value in pairs]
    return [point for point in points if not math.isnan(point[1])]
