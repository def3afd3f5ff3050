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
    record = _load_fleet_record(options) if options.prometheus else _load_local_record(options)
    if added:
        record["labels"] = {**(record.get("labels") or {}), **added}
    print(FORMS[options.format].write(record))
    return 0


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


def _load_local_record(options: argparse.Namespace) -> dict[str, Any]:
    """Load a record of this machine."""
    with run_sources.opened(options) as source:
        return _load_record(source, options)


def _load_record(source: run_sources.RunSource, options: argparse.Namespace) -> dict[str, Any]:
    names = arguments.names(options)
    wanted = {name: value for name, value in names.items() if value is not None}
    if options.run_id is not None and wanted.keys() <= {"job_id"}:
        run = run_sources.find(source, options.run_id, options.job_id, may_be_several=True)
        return run_sources.complete(source, run)
    if not wanted:
        raise ConfigError(
            "report: name a RUN, or give --job-id, --group, --user, --namespace or --account"
        )
    found = source.runs(run_id=options.run_id, **wanted)
    filters = ", ".join(f"{name.removesuffix('_id')} {value}" for name, value in wanted.items())
    if not found:
        raise ConfigError(f"report: no run of {filters} is known on this machine")
    if options.group is None and len(found) == 1:
        return run_sources.complete(source, found[0])
    if options.group is not None:
        record = _load_group(found, options)
    else:
        record = combine_records(found, f"all {len(found)} of {filters}")
    over_budget = budget.exceeding(found)
    return record if over_budget is None else {**record, "over_budget": over_budget}


def _load_group(found: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a group, with its means and its final run."""
    from exporter.report.group import group_record

    try:
        return group_record(found, options.group, options.final)
    except KeyError:
        raise ConfigError(
            f"report: --final {options.final!r:.200}: no run of group {options.group} has this "
            "id or name"
        ) from None
