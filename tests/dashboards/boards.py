"""The generated dashboards as Grafana reads them: what they ask, with their variables filled in."""

import json
import math
import re
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, NamedTuple

GENERATED = Path(__file__).resolve().parents[2] / "dashboards" / "generated"
BOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted(GENERATED.glob("*.json"))
}
GRAFANA = {"__range": "120s", "__rate_interval": "20s", "__interval": "10s"}
"""What Grafana puts itself."""
BACK_SECONDS = 60
LABEL_VALUES = re.compile(r"label_values\((.+), *(\w+)\)")
QUERY_RESULT = re.compile(r"query_result\((.+)\)")


class Question(NamedTuple):
    """One query of a board."""

    board: str
    place: str
    """The panel and the letter of the query, or the annotation."""
    expr: str
    instant: bool
    columns: frozenset[str] | None = None
    """The labels that a table has headings for; None: it is no table."""

    @property
    def name(self) -> str:
        return f"{self.board}: {self.place}"


def questions(name: str) -> list[Question]:
    """Every query of the panels and annotations of a board; those of variables are not in it."""
    board = BOARDS[name]
    return [
        Question(
            name,
            f"{panel['title']} {target['refId']}",
            target["expr"],
            target["instant"],
            _columns(panel),
        )
        for panel in board["panels"]
        for target in panel.get("targets", ())
    ] + [
        Question(name, f"annotation {each['name']}", each["expr"], instant=False)
        for each in board["annotations"]["list"]
    ]


def _columns(panel: Mapping[str, Any]) -> frozenset[str] | None:
    if panel["type"] != "table":
        return None
    return frozenset(panel["transformations"][-1]["options"]["renameByName"])


def variables(name: str) -> list[dict[str, Any]]:
    """The variables of a board that are asked for, in order."""
    return [
        variable
        for variable in BOARDS[name]["templating"]["list"]
        if variable["type"] != "datasource"
    ]


def filled(expr: str, values: Mapping[str, str]) -> str:
    """A query with its variables, `$name`, filled in; `$1` is no variable."""
    return re.sub(r"\$([a-z_]+)", lambda found: values[found[1]], expr)


def numbers(
    question: Question, values: Mapping[str, str], answer: Callable[..., list[Any]]
) -> list[float]:
    """All numbers of its answer; `answer` has the series of a `query` or a `query_range`."""
    query = filled(question.expr, values)
    if question.instant:
        series = [[row["value"]] for row in answer("query", query=query)]
    else:
        now = time.time()
        span = {"start": now - BACK_SECONDS, "end": now, "step": 5}
        series = [row["values"] for row in answer("query_range", query=query, **span)]
    found = [float(value) for points in series for _, value in points]
    return [number for number in found if math.isfinite(number)]


def chosen(
    name: str,
    given: Mapping[str, str],
    ask: Callable[[str], list[Any]],
    empty: Container[str] = (),
) -> dict[str, str]:
    """What Grafana would put for each variable of a board if all of its values were chosen.

    `ask` answers a query with its series. `given` are the variables of Grafana itself, `empty`
    those that may have no value to choose.
    """
    values = dict(given)
    for variable in variables(name):
        if variable["type"] == "custom":
            values[variable["name"]] = variable["current"]["value"]
            continue
        options = _options(variable, filled(query_of(variable), values), ask)
        assert options or variable["name"] in empty, (
            f"{name}: variable {variable['name']} has no values"
        )
        values[variable["name"]] = variable["allValue"] or "|".join(map(_escaped, options))
    return values


def _escaped(value: str) -> str:
    """A value inside a regular expression inside a string of PromQL."""
    return re.sub(r"[$^*{}\[\]'+?.()|\\]", r"\\\\\g<0>", value)


def query_of(variable: Mapping[str, Any]) -> str:
    """What is asked for the values of a variable; empty if it is one of fixed texts."""
    if variable["type"] == "custom":
        return ""
    found = LABEL_VALUES.fullmatch(variable["query"]) or QUERY_RESULT.fullmatch(variable["query"])
    assert found is not None, variable["query"]
    return found[1]


def _options(variable: Mapping[str, Any], query: str, ask: Callable[[str], list[Any]]) -> list[str]:
    rows = ask(query)
    by_label = LABEL_VALUES.fullmatch(variable["query"])
    if by_label is not None:
        return sorted({row["metric"].get(by_label[2], "") for row in rows} - {""})
    pattern = re.compile(variable["regex"].strip("/"))
    values = set()
    for row in rows:
        labels = ",".join(f'{name}="{value}"' for name, value in row["metric"].items())
        found = pattern.search(f"{{{labels}}} {row['value'][1]} {row['value'][0]}")
        values |= {found[1]} if found else set()
    return sorted(values)
