"""Queries and shared PromQL expressions."""

from collections.abc import Sequence

from grafanalib import core

from exporter.model.runs import RUN_LABELS

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RUN_BY = ", ".join(RUN_LABELS)
"""Labels of a run, for `by (...)` and `on (...)`."""
RUN_BY_NODE = f"instance, {RUN_BY}"
"""Labels of the part of a run on one node."""
NODES = 'instance=~"$instance"'
"""Matcher of the selected nodes."""
NO_USER = "no user"
"""Placeholder for runs without a user; the leaderboard accepts it as a selection."""
ALERTS = 'ALERTS{alertname=~"Emissions.+",alertstate="firing"}'
OWNED = "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max"
"""Owner of each run; at most a quarter as many series as `emissions_run_info`."""
JOULES_PER_KWH = "3.6e6"
EVALUATION = "1m"
"""Evaluation interval of the rules; bars of increases are not narrower."""


def query(expr: str, legend: str = "__auto", *, interval: str = "") -> core.Target:
    """Build a range query; `interval` is the minimum step."""
    return core.Target(
        expr=expr,
        legendFormat=legend,
        interval=interval,
        intervalFactor=1,
        datasource=DATA_SOURCE,
    )


def latest(expr: str, legend: str = "__auto") -> core.Target:
    """Build an instant query at the end of the time range."""
    return core.Target(
        expr=expr, legendFormat=legend, intervalFactor=1, datasource=DATA_SOURCE, instant=True
    )


def gained(recorded: str, by: str = "", where: str = "", window: str = "$__range") -> str:
    """Sum a recorded `:increase` over the time range or another `window`."""
    grouping = f" by ({by}) " if by else ""
    selector = f"{recorded}{{{where}}}" if where else recorded
    return f"sum{grouping}(sum_over_time({selector}[{window}]))"


def top(count: int, expr: str, by: str, rank: str) -> str:
    """Select the series of `expr` with the largest `rank` at the end of the time range.

    The same few series are shown at all times, however many there are.
    """
    return f"{expr} and on ({by}) topk({count}, {rank})"


def named(expr: str, label: str, placeholder: str) -> str:
    """Replace an empty label of `expr` by a placeholder."""
    return f'label_replace({expr}, "{label}", "{placeholder}", "{label}", "")'


def matching(expr: str, label: str, pattern: str) -> str:
    """Select the series of `expr` whose label matches a pattern, also if `named` set the label."""
    marked = f'label_replace({expr}, "chosen", "yes", "{label}", "{pattern}")'
    return f'({marked} and on (chosen) label_replace(vector(1), "chosen", "yes", "", ""))'


def short_id(expr: str) -> str:
    """Add a label `short`: the id of a device, shortened for GPUs."""
    return f'label_replace({expr}, "short", "$1", "id", "(GPU-[0-9a-f]{{8}}|.*).*")'


def lettered(targets: Sequence[core.Target]) -> list[core.Target]:
    """Set the names of the queries of one panel: A, B and so on."""
    for target, ref in zip(targets, refs(len(targets)), strict=True):
        target.refId = ref
    return list(targets)


def refs(length: int) -> str:
    """Return the names of this many queries."""
    return "ABCDEFGHIJKL"[:length]
