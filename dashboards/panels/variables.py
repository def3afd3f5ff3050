"""Variables, selected at the top of a dashboard."""

from collections.abc import Sequence

from grafanalib import core

from panels.queries import DATA_SOURCE

ALL = ".*"


def data_sources() -> core.Template:
    """Selector of the Prometheus-compatible data source."""
    return core.Template(
        name="datasource", label="Data source", type="datasource", query="prometheus"
    )


def nodes(*, has_all: bool = True) -> core.Template:
    """Selector of nodes by name; defaults to all of them, or else to the first one."""
    query = "label_values(emissions_exporter_build_info, instance)"
    return variable("instance", "Node", query, all_value=ALL if has_all else "")


def variable(
    name: str,
    label: str,
    query: str,
    *,
    all_value: str = ALL,
    has_all: bool = False,
    regex: str = "",
) -> core.Template:
    """Selector of any number of the values of a query.

    Defaults to all values if `all_value` matches them or `has_all` lists them, else to the first.
    """
    begins_with_all = bool(all_value) or has_all
    return core.Template(
        name=name,
        label=label,
        dataSource=DATA_SOURCE,
        query=query,
        regex=regex,
        refresh=core.REFRESH_ON_TIME_RANGE_CHANGE,
        multi=True,
        includeAll=begins_with_all,
        allValue=all_value or None,
        default="$__all" if begins_with_all else None,
    )


def kind(name: str, label: str, query: str) -> core.Template:
    """Selector of one of the values of a query; defaults to the alphabetically last one."""
    return core.Template(
        name=name,
        label=label,
        dataSource=DATA_SOURCE,
        query=query,
        refresh=core.REFRESH_ON_TIME_RANGE_CHANGE,
        sort=core.SORT_ALPHA_DESC,
    )


def choice(name: str, label: str, values: Sequence[str]) -> core.Template:
    """Selector of one of some values; defaults to the first one."""
    return core.Template(
        name=name, label=label, type="custom", query=",".join(values), default=values[0]
    )
