"""The variables of a dashboard: which values they have, and what they become in a query."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.dashboards.preview.formatting import colour
from tests.dashboards.preview.prometheus import Prometheus, QueryError, Series, Span, pieces

REFERENCE = re.compile(r"\$\{(\w+)(?:\.\w+)?(?::(\w+))?\}|\$(\w+)")
LABEL_VALUES = re.compile(r"label_values\((?:(.+),)?\s*(\w+)\s*\)\s*$", re.DOTALL)
QUERY_RESULT = re.compile(r"query_result\((.+)\)\s*$", re.DOTALL)
DESCENDING = (2, 4)
"""Ways to sort the values of a variable."""
SPECIAL = re.compile(r"[\\^$*+?.()|{}\[\]/]")


@dataclass(frozen=True)
class Variable:
    """What was chosen: the text that is shown, and the values that it stands for."""

    label: str
    text: str
    values: Sequence[str]
    pattern: str | None = None
    """What is put into queries instead, of "All" with a value of its own."""
    several: bool = False
    hidden: bool = False

    def written(self, form: str) -> str:
        """In the form that a query asks for; as a regular expression unless it says another."""
        if form == "text":
            return self.text
        if self.pattern is not None:
            return self.pattern
        if form in {"raw", "csv", "pipe"} or not (self.several or form == "regex"):
            return ("|" if form == "pipe" else ",").join(self.values)
        # Twice, since it stands within the quotes of PromQL.
        escaped = [SPECIAL.sub(r"\\\\\g<0>", value) for value in self.values]
        return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def substituted(text: str, builtins: Mapping[str, str], variables: Mapping[str, Variable]) -> str:
    """A text with each variable that is known replaced."""

    def one(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name in variables:
            return variables[name].written(found[2] or "")
        return builtins.get(name, found[0])

    return REFERENCE.sub(one, text)


def displayed(text: str, variables: Mapping[str, Variable]) -> str:
    """A title, in which variables stand as people read them."""
    texts = {name: variable.text for name, variable in variables.items()}
    return substituted(text, texts, {})


def resolve(
    board: Mapping[str, Any], api: Prometheus, span: Span, chosen: Mapping[str, str]
) -> dict[str, Variable]:
    """Every variable of a dashboard; those after others may use them.

    `chosen` are values by name; else it is what the dashboard opens on, or the first value.
    """
    found: dict[str, Variable] = {}
    for model in board["templating"]["list"]:
        name = model["name"]
        options = _options(model, api, span, found)
        found[name] = _variable(model, options, chosen.get(name))
    return found


def _variable(model: Mapping[str, Any], options: Sequence[str], choice: str | None) -> Variable:
    label, hidden = model.get("label") or model["name"], model.get("hide") == 2
    several = bool(model.get("multi") or model.get("includeAll"))
    opens_on = (model.get("current") or {}).get("value")
    opens_on = opens_on[0] if isinstance(opens_on, list) and opens_on else opens_on
    if choice is None and model.get("includeAll") and opens_on in {None, "", "$__all"}:
        return Variable(label, "All", options, model.get("allValue") or None, several, hidden)
    if choice is None:
        choice = opens_on if opens_on in options and opens_on else next(iter(options), "")
    return Variable(label, choice or "None", [choice], None, several, hidden)


def _options(
    model: Mapping[str, Any], api: Prometheus, span: Span, found: Mapping[str, Variable]
) -> list[str]:
    query = model.get("query") or ""
    query = query["query"] if isinstance(query, dict) else query
    if model["type"] == "datasource":
        return ["Prometheus"]
    if model["type"] != "query":
        return [part.split(" : ")[-1].strip() for part in query.split(",")]
    try:
        asked = substituted(query, span.builtins(), found)
        values = _asked(asked, model.get("regex"), api, span)
        return values[::-1] if model.get("sort") in DESCENDING else values
    except QueryError:
        return []


def _asked(query: str, regex: str | None, api: Prometheus, span: Span) -> list[str]:
    if labels := LABEL_VALUES.match(query):
        values = api.label_values(labels[2], (labels[1] or "").strip(), span)
    elif result := QUERY_RESULT.match(query):
        values = [
            f"{row.labels.get('__name__', '')}{{"
            + ",".join(f'{key}="{value}"' for key, value in row.labels.items() if key != "__name__")
            + f"}} {row.points[0][1]:g} {row.points[0][0] * 1000:.0f}"
            for row in api.latest(result[1], span.end)
            if row.points
        ]
    else:
        raise QueryError(f"a variable asks {query}, which the preview cannot")
    if regex:
        pattern = re.compile(regex.strip("/"))
        matches = [pattern.search(value) for value in values]
        values = [match[1] if pattern.groups else match[0] for match in matches if match]
    return sorted(dict.fromkeys(values))


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
        _marked(each, api, span, variables)
        for each in board["annotations"]["list"]
        if each.get("expr") and each.get("enable", True)
    ]


def _marked(
    model: Mapping[str, Any], api: Prometheus, span: Span, variables: Mapping[str, Variable]
) -> Marks:
    name, shade = model["name"], colour(model.get("iconColor") or "red")
    step = span.step_seconds(model.get("step") or "")
    try:
        found = api.over(substituted(model["expr"], span.builtins(), variables), span, step)
    except QueryError as reason:
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
