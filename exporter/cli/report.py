"""`report`: print the report of a run, or of all runs of a job, group, user, namespace or account.

Reads the runs of this machine from the daemon or, if none answers, from its ledger. With
--prometheus, reads the runs of all nodes from a Prometheus server.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from exporter.cli import arguments, run_sources
from exporter.cli.arguments import (
    add_prometheus_options,
    check_prometheus_options,
    open_prometheus,
    parse_labels,
)
from exporter.errors import ConfigError
from exporter.report import budget
from exporter.report.card.facts import LABELS
from exporter.report.forms.registry import FORMS
from exporter.report.inner import merge_tasks
from exporter.report.records import combine_records

KNOWN_LABELS = (*LABELS.values(), "software", "experiment_id", "group")
"""Labels shown by formats other than JSON."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("report", help="Print the report of a run.", description=__doc__)
    parser.add_argument(
        "run_id",
        metavar="RUN",
        nargs="?",
        help="Id or name of the run; if several runs have this name, the newest.",
    )
    parser.add_argument(
        "--job-id",
        metavar="ID",
        help="All runs of a job; with RUN, the job of the run.",
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="All runs of a group, for example a sweep, and their mean.",
    )
    parser.add_argument(
        "--final",
        default="",
        metavar="RUN",
        help="Id or name of the final run of the group (default: its last run).",
    )
    parser.add_argument("--user", metavar="NAME", help="All runs of a user.")
    parser.add_argument("--namespace", metavar="NAME", help="All runs of pods in a namespace.")
    parser.add_argument("--account", metavar="NAME", help="All runs of an account.")
    parser.add_argument(
        "--format", choices=tuple(FORMS), default="text", help="Format of the output."
    )
    parser.add_argument(
        "--label",
        type=arguments.label,
        action="append",
        default=[],
        metavar="K=V",
        help="Add a label to the report: hardware_used, geographical_location, training_type, "
        "software, experiment_id (CodeCarbon format); repeatable.",
    )
    run_sources.add_flags(parser)
    add_prometheus_options(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the report."""
    if options.final and options.group is None:
        raise ConfigError("report: --final requires --group: it selects the final run of a group")
    check_prometheus_options("report", options)
    added = parse_labels(options.label)
    _warn_unknown(added, options.format)
    if options.prometheus:
        print(FORMS[options.format].write(_with_labels(_load_fleet_record(options), added)))
        return 0
    with run_sources.opened(options) as source:
        print(_local_report(source, options, added))
    return 0


def _with_labels(record: Mapping[str, Any], added: Mapping[str, str]) -> dict[str, Any]:
    return {**record, "labels": {**(record.get("labels") or {}), **added}} if added else {**record}


def _local_report(
    source: run_sources.RunSource, options: argparse.Namespace, added: Mapping[str, str]
) -> str:
    """Return the report of the selected runs of this machine."""
    found = _find_runs(source, options)
    if options.format == "codecarbon" and (len(found) > 1 or options.group is not None):
        from exporter.report.forms.codecarbon import csv_rows

        oldest_first = sorted(merge_tasks(found), key=lambda run: float(run["started"]))
        return csv_rows(_with_labels(run, added) for run in oldest_first)
    record = _combine(source, found, options)
    return FORMS[options.format].write(_with_labels(record, added))


def _warn_unknown(labels: Mapping[str, str], form: str) -> None:
    """Warn about labels that only JSON shows, so that a typing error is noticed."""
    unknown = [] if form == "json" else [name for name in labels if name not in KNOWN_LABELS]
    if unknown:
        print(
            f"emissions-exporter: --label {', '.join(unknown)}: shown only in JSON; "
            f"labels of other formats: {', '.join(KNOWN_LABELS)}",
            file=sys.stderr,
        )


def _load_fleet_record(options: argparse.Namespace) -> dict[str, Any]:
    """Load a record over many nodes from Prometheus."""
    from exporter.report.fleet import fleet_record  # imported here because it takes 0.1 s
    from exporter.report.prometheus_queries import RunSelector

    if options.group is not None:
        raise ConfigError(
            "report: --group cannot be used with --prometheus; give a RUN, --job-id, --user, "
            "--namespace or --account"
        )
    wanted = RunSelector(
        options.run_id, options.job_id, options.user, options.namespace, options.account
    )
    if wanted == RunSelector():
        raise ConfigError("report: name a RUN, or give --job-id, --user, --namespace or --account")
    return fleet_record(open_prometheus(options), wanted, options.since_seconds)


def _find_runs(
    source: run_sources.RunSource, options: argparse.Namespace
) -> Sequence[Mapping[str, Any]]:
    """Return the records of the selected runs, at least one. Raises ConfigError."""
    wanted = _wanted(options)
    if options.run_id is not None and wanted.keys() <= {"job_id"}:
        return [run_sources.find(source, options.run_id, options.job_id, may_be_several=True)]
    if not wanted:
        raise ConfigError(
            "report: name a RUN, or give --job-id, --group, --user, --namespace or --account"
        )
    found = source.runs(run_id=options.run_id, **wanted)
    if not found:
        run = "" if options.run_id is None else f" with the id {options.run_id!r:.200}"
        raise ConfigError(f"report: no run{run} of {_filters(wanted)} is known on this machine")
    return found


def _wanted(options: argparse.Namespace) -> dict[str, str]:
    """Return the filters that were given."""
    names = arguments.names(options)
    return {name: value for name, value in names.items() if value is not None}


def _filters(wanted: Mapping[str, str]) -> str:
    return ", ".join(f"{name.removesuffix('_id')} {value}" for name, value in wanted.items())


def _combine(
    source: run_sources.RunSource,
    found: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Return the record of a run with its inner runs, or the sum of several runs."""
    if options.group is None and len(found) == 1:
        return run_sources.complete(source, found[0])
    if options.group is not None:
        record = _load_group(found, options, complete=run_sources.is_complete(source))
    else:
        count = f"all {len(found)}" if run_sources.is_complete(source) else str(len(found))
        record = combine_records(found, f"{count} of {_filters(_wanted(options))}")
    over_budget = budget.exceeding(found)
    return record if over_budget is None else {**record, "over_budget": over_budget}


def _load_group(
    found: Sequence[Mapping[str, Any]], options: argparse.Namespace, *, complete: bool
) -> dict[str, Any]:
    """Return the record of a group, with its means and its final run."""
    from exporter.report.group import group_record

    try:
        return group_record(found, options.group, options.final, complete=complete)
    except KeyError:
        raise ConfigError(
            f"report: --final {options.final!r:.200}: no run of group {options.group} has this "
            "id or name"
        ) from None
