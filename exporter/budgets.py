"""Budgets of users, namespaces, accounts or labels: budgets file, and Prometheus rules from it."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from exporter.errors import ConfigError
from exporter.model.runs import RUN_LABELS
from exporter.setting import read_yaml
from exporter.units import JOULES_PER_KWH

RUN_BY_NODE = ", ".join(("instance", *RUN_LABELS))
"""Labels of the part of a run on one node, for `by (...)` and `on (...)`."""
SELECTOR_LABELS = ("user", "workload_namespace", "account", "job_id")
"""Labels that a budget can select by, besides exported labels of runs."""
LABEL = re.compile(r"label_[a-zA-Z0-9_]+")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
MAX_LIMIT = sys.float_info.max / JOULES_PER_KWH
KEYS = ("name", "grams", "kwh", "period", "of")


class Period(StrEnum):
    """Calendar period of a budget, in UTC; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


class BudgetDefinition(NamedTuple):
    """A limit on emissions or energy per period, for selected runs or all energy."""

    name: str
    limit: float
    """Grams of CO2 equivalent, or joules if `is_energy`."""
    is_energy: bool
    period: Period
    of: tuple[tuple[str, tuple[str, ...]], ...]
    """Labels with the selected values; empty means all energy, including unattributed."""
    line: int = 0
    """Line in the budgets file."""


def load_budgets(path: str) -> tuple[BudgetDefinition, ...]:
    """Load the budgets in the YAML file at `path`. Raises ConfigError with line and reason."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from None
    document = read_yaml(text, path)
    entries = document.get("budgets") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or set(document) != {"budgets"}:
        raise ConfigError(f"{path}: expected the key `budgets` with a list of at least one budget")
    budgets: dict[str, BudgetDefinition] = {}
    for location, entry in zip(
        _locations(path, yaml.compose(text, yaml.SafeLoader)), entries, strict=True
    ):
        budget = _parse_budget(entry, location)._replace(line=location.line)
        if budget.name in budgets:
            raise ConfigError(f"{location.of('name')}: another budget is named {budget.name}")
        budgets[budget.name] = budget
    return tuple(budgets.values())


class _Location(NamedTuple):
    """Location of a budget in its file."""

    path: str
    line: int
    lines: Mapping[str, int]
    """Line of each key."""

    def of(self, key: str) -> str:
        """Return the location of a key, or of the budget if it lacks the key."""
        return f"{self.path}: line {self.lines.get(key, self.line)}: {key}"

    def __str__(self) -> str:
        return f"{self.path}: line {self.line}"


def _locations(path: str, node: Any) -> Iterator[_Location]:
    """Yield the location of each budget."""
    for key, value in node.value:
        if key.value == "budgets":
            for entry in value.value:
                pairs = entry.value if isinstance(entry, yaml.MappingNode) else ()
                lines = {str(name.value): name.start_mark.line + 1 for name, _ in pairs}
                yield _Location(path, entry.start_mark.line + 1, lines)


def _parse_budget(entry: Any, where: _Location) -> BudgetDefinition:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected {', '.join(KEYS)}, found {entry!r}")
    for key in entry:
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise ConfigError(f"{where.of(str(key))}: there is no such key; known are {known}")
    name = entry.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"{where.of('name')}: expected letters, digits, dots, dashes and underscores, "
            f"found {name!r}"
        )
    try:
        period = Period(entry.get("period", ""))
    except ValueError:
        raise ConfigError(
            f"{where.of('period')}: expected one of {', '.join(Period)}, "
            f"found {entry.get('period')!r}"
        ) from None
    is_energy = "kwh" in entry
    if is_energy == ("grams" in entry):
        raise ConfigError(f"{where}: expected either grams or kwh")
    unit = "kwh" if is_energy else "grams"
    limit = _limit(entry[unit], where.of(unit))
    of = entry.get("of")
    if "of" in entry and not isinstance(of, dict):
        raise ConfigError(f"{where.of('of')}: expected labels with their values, found {of!r}")
    if is_energy:
        limit *= JOULES_PER_KWH
    return BudgetDefinition(
        name, limit, is_energy, period, tuple(_parse_selector(of or {}, where.of("of")))
    )


def _limit(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: expected a number without a unit, found {value!r}")
    if not 0 < value <= MAX_LIMIT:
        raise ConfigError(f"{where}: {value} is not a valid limit; it must be above 0")
    return float(value)


def _parse_selector(of: Mapping[Any, Any], where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for label, given in of.items():
        if label not in SELECTOR_LABELS and not (isinstance(label, str) and LABEL.fullmatch(label)):
            known = ", ".join(SELECTOR_LABELS)
            exported = re.sub(r"[^a-zA-Z0-9_]", "_", str(label))
            hint = f"; did you mean {exported}?" if LABEL.fullmatch(exported) else ""
            raise ConfigError(
                f"{where}: {label}: a budget can be of {known} or a label of runs, such as "
                f"label_team, that is listed in attribute.exported_labels of the exporters{hint}"
            )
        values = given if isinstance(given, list) else [given]
        is_text = (isinstance(each, str | int) and not isinstance(each, bool) for each in values)
        if not values or "" in values or not all(is_text):
            raise ConfigError(
                f"{where}.{label}: expected a value or several, found {given!r}; quote values such "
                'as "on" and "no"'
            )
        yield label, tuple(str(value) for value in values)


Rule = dict[str, Any]

LAST_READ_TIME = "budget:emissions_budget_read_time_seconds:max"
START = "period:emissions_budget_period_start_time_seconds:max"
END = "period:emissions_budget_period_end_time_seconds:max"
LOOKBACK = "93d"
"""Longest outage of Prometheus after which the spent amount is still found: a quarter."""


class BurnWindows(NamedTuple):
    """Windows of a burn-rate alert, and its threshold as a multiple of the even rate."""

    long: str
    short: str
    factor: float


FAST_BURN = {
    Period.DAY: BurnWindows("1h", "5m", 6),
    Period.WEEK: BurnWindows("2h", "10m", 10),
    Period.MONTH: BurnWindows("6h", "30m", 10),
    Period.QUARTER: BurnWindows("1d", "2h", 10),
}
SLOW_BURN = {
    Period.DAY: BurnWindows("6h", "1h", 2),
    Period.WEEK: BurnWindows("1d", "2h", 2),
    Period.MONTH: BurnWindows("3d", "6h", 2),
    Period.QUARTER: BurnWindows("7d", "1d", 2),
}
UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}


def rule_file(budgets: Sequence[BudgetDefinition], runbook_url: str = "") -> dict[str, Any]:
    """Return a Prometheus rule file; it requires the rules of deploy/prometheus/rules.

    Alerts link to their heading in the runbook if `runbook_url` is given.
    """
    periods = sorted({budget.period for budget in budgets}, key=list(Period).index)
    recorded = [*_calendar(periods), *(rule for budget in budgets for rule in _recorded(budget))]
    return {
        "groups": [
            {"name": "emissions-budgets-of-owners", "interval": "1m", "rules": recorded},
            {
                "name": "emissions-budgets-of-owners-alerts",
                "interval": "1m",
                "rules": list(_alerts(periods, runbook_url)),
            },
        ]
    }


def selector(budget: BudgetDefinition) -> str:
    """Return PromQL that selects the runs of a budget; empty means all energy."""
    matchers = ", ".join(_matcher(label, values) for label, values in budget.of)
    return f"emissions_run_info{{{matchers}}}" if matchers else ""


def _calendar(periods: Sequence[Period]) -> Iterator[Rule]:
    """Yield rules for the start and end of each period, in UTC."""
    month = "(vector(time() - time() % 86400) - (day_of_month() - 1) * 86400)"
    before = f"({month} - 86400 * day_of_month({month} - 86400))"
    two_before = f"({before} - 86400 * day_of_month({before} - 86400))"
    after = f"({month} + 86400 * days_in_month())"
    two_after = f"({after} + 86400 * days_in_month({after}))"
    three_after = f"({two_after} + 86400 * days_in_month({two_after}))"
    month_of_quarter = "(month() - 1) % 3"

    def by_month_of_quarter(*choices: str) -> str:
        return " or ".join(
            f"({choice} and {month_of_quarter} == {n})" for n, choice in enumerate(choices)
        )

    starts = {
        Period.DAY: "vector(time() - time() % 86400)",
        Period.WEEK: "vector(time() - (time() - 4 * 86400) % 604800)",
        Period.MONTH: month,
        Period.QUARTER: by_month_of_quarter(month, before, two_before),
    }
    ends = {
        Period.DAY: "vector(time() - time() % 86400 + 86400)",
        Period.WEEK: "vector(time() - (time() - 4 * 86400) % 604800 + 604800)",
        Period.MONTH: after,
        Period.QUARTER: by_month_of_quarter(three_after, two_after, after),
    }
    for period in periods:
        labels = {"period": str(period)}
        yield {"record": START, "expr": starts[period], "labels": labels}
        yield {"record": END, "expr": ends[period], "labels": labels}


def _recorded(budget: BudgetDefinition) -> Iterator[Rule]:
    labels = {"budget": budget.name, "period": str(budget.period)}
    mine, period = f'{{budget="{budget.name}"}}', f'{{period="{budget.period}"}}'
    unit = "joules" if budget.is_energy else "grams"
    used, spent = (
        f"budget:emissions_budget_{unit}:increase",
        f"budget:emissions_budget_{unit}:spent",
    )
    limit = f"emissions_budget_limit_{unit}"
    limit_of, spent_of = f"sum({limit}{mine})", f"sum({spent}{mine})"
    began, ends = f"sum({START}{period})", f"sum({END}{period})"

    def record(name: str, expr: str) -> Rule:
        return {"record": name, "expr": expr, "labels": labels}

    yield record(limit, f"vector({budget.limit!r})")
    increase, series = _increase(budget)
    read = f"sum(last_over_time({LAST_READ_TIME}{mine}[1h] offset 30s)) or vector(0)"
    # Count each evaluation of the rules in runs.yaml once, whenever these rules are evaluated.
    yield record(
        used, f"(sum({increase}) and on () max(timestamp({series})) > on () ({read})) or vector(0)"
    )
    yield record(LAST_READ_TIME, f"max(timestamp({series}))")
    yield record(
        spent,
        f"((sum(last_over_time({spent}{mine}[{LOOKBACK}] offset 30s)) and on () "
        f"(sum(last_over_time({START}{period}[{LOOKBACK}] offset 30s)) == on () {began}))"
        f" or vector(0)) + sum({used}{mine})",
    )
    yield record(f"budget:emissions_budget_{unit}:remaining", f"{limit_of} - {spent_of}")
    yield record("budget:emissions_budget_spent_per_limit:ratio", f"{spent_of} / {limit_of}")
    evenly = f"({limit_of} / ({ends} - {began}))"
    for window in _windows(budget.period):
        rate = _rate(used + mine, window)
        yield record(f"budget:emissions_budget_burn:ratio_{window}", f"{rate} / {evenly}")
    rate = _rate(used + mine, FAST_BURN[budget.period].long)
    yield record(
        "budget:emissions_budget_forecast_per_limit:ratio",
        f"({spent_of} + {rate} * ({ends} - time())) / {limit_of}",
    )
    yield record(
        "budget:emissions_budget_exhausted_time_seconds:forecast",
        f"time() + ({limit_of} - {spent_of} >= 0) / ({rate} > 0)",
    )


def _rate(increase: str, window: str) -> str:
    """Return PromQL for the rate per second over the evaluations in a window.

    The range is slightly shorter than the window, since it depends on the version of Prometheus
    whether both ends are included. Missing evaluations count as zero.
    """
    seconds = _seconds(window)
    return f"sum(sum_over_time({increase}[{seconds - 30}s])) / {seconds}"


def _increase(budget: BudgetDefinition) -> tuple[str, str]:
    """Return PromQL for the increase between two evaluations of runs.yaml, and its series."""
    what = "energy_joules" if budget.is_energy else "carbon_grams"
    if not budget.of:
        everything = f"cluster:emissions_device_{what}:increase"
        return everything, everything
    runs = f"instance_run_id_job_id_device_id:emissions_run_{what}:increase"
    names = [label for label, _ in budget.of]
    matchers = ", ".join(_matcher(label, values) for label, values in budget.of)
    if names == ["job_id"]:
        return f"{runs}{{{matchers}}}", runs
    if len(names) == 1 and names[0] in SELECTOR_LABELS:
        level = f"{names[0]}:emissions_run_{what}:increase"
        return f"{level}{{{matchers}}}", level
    info = f"max by ({RUN_BY_NODE}) ({selector(budget)})"
    summed = f"sum by ({RUN_BY_NODE}) ({runs})"
    return f"{summed} * on ({RUN_BY_NODE}) {info}", runs


def _matcher(label: str, values: Sequence[str]) -> str:
    if len(values) == 1:
        return f"{label}={_quoted(values[0])}"
    return f"{label}=~{_quoted('|'.join(map(re.escape, values)))}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _alerts(periods: Sequence[Period], runbook_url: str) -> Iterator[Rule]:
    alert = partial(_alert, runbook_url)
    spent = "budget:emissions_budget_spent_per_limit:ratio"
    of_period = "The budget {{ $labels.budget }} of this {{ $labels.period }}"
    yield alert(
        "EmissionsBudgetExhausted",
        f"{spent} >= 1",
        "critical",
        f"{of_period} is exhausted.",
        "{{ $value | humanizePercentage }} is spent. The next {{ $labels.period }} begins at zero.",
    )
    yield alert(
        "EmissionsBudgetForecast",
        f"budget:emissions_budget_forecast_per_limit:ratio > 1 and on (budget) {spent} < 1",
        "info",
        f"{of_period} is forecast to be exceeded.",
        "At the rate of the last hours {{ $value | humanizePercentage }} of it will be spent.",
        wait="30m",
    )
    for name, severity, burns, pace in (
        ("EmissionsBudgetBurnsFast", "warning", FAST_BURN, "very fast"),
        ("EmissionsBudgetBurnsSlowly", "info", SLOW_BURN, "too fast"),
    ):
        burning = " or ".join(_burning(period, burns[period]) for period in periods)
        yield alert(
            name,
            f"({burning}) and on (budget) {spent} < 1",
            severity,
            f"{of_period} is spent {pace}, at {{{{ $value | humanize }}}} times the even rate.",
            "The rate is above the threshold over the long and the short window of the alert.",
            wait="2m",
        )


def _burning(period: Period, burn: BurnWindows) -> str:
    """Return PromQL that is true if the rate is above the threshold over both windows."""
    ratios = (
        f'budget:emissions_budget_burn:ratio_{window}{{period="{period}"}} > {burn.factor:g}'
        for window in (burn.long, burn.short)
    )
    return f"({' and '.join(ratios)})"


def _alert(
    runbook_url: str,
    name: str,
    expr: str,
    severity: str,
    summary: str,
    description: str,
    wait: str = "",
) -> Rule:
    link = {"runbook_url": f"{runbook_url}#{name.lower()}"} if runbook_url else {}
    return {
        "alert": name,
        "expr": expr,
        **({"for": wait} if wait else {}),
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description, **link},
    }


def _windows(period: Period) -> list[str]:
    """Return the distinct windows of a period, ordered by length."""
    windows = {
        window
        for burn in (FAST_BURN[period], SLOW_BURN[period])
        for window in (burn.long, burn.short)
    }
    return sorted(windows, key=_seconds)


def _seconds(window: str) -> int:
    return int(window[:-1]) * UNIT_SECONDS[window[-1]]
