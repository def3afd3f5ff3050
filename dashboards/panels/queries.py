"""Queries, and the expressions that many of them share."""

from collections.abc import Sequence

from grafanalib import core

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
NODES = 'instance=~"$instance"'
"""The matcher of the nodes that were chosen."""
NO_USER = "no user"
"""What stands for the user of runs that have none; the leaderboard can be asked for it."""
ALERTS = 'ALERTS{alertname=~"Emissions.+",alertstate="firing"}'
OWNED = "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max"
"""Whose each run is; of all runs a quarter of what is scraped, or less."""
JOULES_PER_KWH = "3.6e6"
EVALUATION = "1m"
"""How often rules record: bars of what was gained are no narrower."""


def query(expr: str, legend: str = "__auto", *, interval: str = "") -> core.Target:
    """A query over the time shown; `interval` is the least step."""
    return core.Target(
        expr=expr,
        legendFormat=legend,
        interval=interval,
        intervalFactor=1,
        datasource=DATA_SOURCE,
    )


def latest(expr: str, legend: str = "__auto") -> core.Target:
    """A query at the end of the time shown."""
    return core.Target(
        expr=expr, legendFormat=legend, intervalFactor=1, datasource=DATA_SOURCE, instant=True
    )


def gained(recorded: str, by: str = "", where: str = "", window: str = "$__range") -> str:
    """What rules recorded as added, an `:increase`, in the time shown or in another `window`."""
    grouping = f" by ({by}) " if by else ""
    selector = f"{recorded}{{{where}}}" if where else recorded
    return f"sum{grouping}(sum_over_time({selector}[{window}]))"


def top(count: int, expr: str, by: str, rank: str) -> str:
    """Those of `expr` for which `rank` is largest at the end of the time shown.

    So the same ones are shown at all times, and few, however many there are.
    """
    return f"{expr} and on ({by}) topk({count}, {rank})"


def named(expr: str, label: str, nobody: str) -> str:
    """`expr` with a text where a label is empty."""
    return f'label_replace({expr}, "{label}", "{nobody}", "{label}", "")'


def matching(expr: str, label: str, pattern: str) -> str:
    """Those of `expr` whose label matches a pattern, also where it was given to them by `named`."""
    marked = f'label_replace({expr}, "chosen", "yes", "{label}", "{pattern}")'
    return f'({marked} and on (chosen) label_replace(vector(1), "chosen", "yes", "", ""))'


def short_id(expr: str) -> str:
    """`expr` with a label `short`: the id of a device, of a GPU its first digits."""
    return f'label_replace({expr}, "short", "$1", "id", "(GPU-[0-9a-f]{{8}}|.*).*")'


def lettered(targets: Sequence[core.Target]) -> list[core.Target]:
    """The queries of one panel with their names, A, B and so on."""
    for target, ref in zip(targets, refs(len(targets)), strict=True):
        target.refId = ref
    return list(targets)


def refs(length: int) -> str:
    """The names of so many queries."""
    return "ABCDEFGHIJKL"[:length]
