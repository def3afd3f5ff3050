"""Questions to a Prometheus-compatible API, and its answers as series."""

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from dashboards.preview.series import Series
from dashboards.preview.span import Span

TIMEOUT_SECONDS = 60.0


class Unanswered(Exception):
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
            with urllib.request.urlopen(asked, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  the user's own
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise Unanswered(_reason(refusal.read()) or f"HTTP {refusal.code}") from None
        except (OSError, ValueError, KeyError) as error:
            raise Unanswered(f"{self.url} does not answer: {error}") from None


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""


def _points(pairs: list[tuple[float, str]]) -> list[tuple[float, float]]:
    points = [(float(at), float(value)) for at, value in pairs]
    return [point for point in points if not math.isnan(point[1])]
