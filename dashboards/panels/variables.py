"""What is asked for at the top of a board."""

from collections.abc import Sequence

from grafanalib import core

from panels.queries import DATA_SOURCE

ALL = ".*"


def data_sources() -> core.Template:
    """Which Prometheus, or what answers like one."""
    return core.Template(
        name="datasource", label="Data source", type="datasource", query="prometheus"
    )


def nodes(*, has_all: bool = True) -> core.Template:
    """The nodes by name; all of them, or else the first."""
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
    """Any number of the values of a query.

    All of them at first, where `all_value` matches them or `has_all` lists them; else the first.
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
    """One of the values of a query; the last in the alphabet at first."""
    return core.Template(
        name=name,
        label=label,
        dataSource=DATA_SOURCE,
        query=query,
        refresh=core.REFRESH_ON_TIME_RANGE_CHANGE,
        sort=core.SORT_ALPHA_DESC,
    )


def choice(name: str, label: str, values: Sequence[str]) -> core.Template:
    """One of some values; the first of them at first."""
    return core.Template(
        name=name, label=label, type="custom", query=",".join(values), default=values[0]
    )
