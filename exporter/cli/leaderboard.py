"""`leaderboard`: rank runs by their emissions and their results.

Reads the runs of this machine from the daemon or, if none answers, from its ledger. With
--prometheus, reads the runs of all nodes from a Prometheus server; with --from, reads record files.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from exporter import __version__, formatting
from exporter.cli import arguments, run_sources
from exporter.clock import SystemClock
from exporter.errors import ConfigError
from exporter.report import records
from exporter.report.leaderboard.board import Leaderboard, make_leaderboard
from exporter.report.leaderboard.entry import (
    LeaderboardEntry,
    Record,
    attach_serving_runs,
    make_entries,
)
from exporter.report.leaderboard.ranking import SortKey, choose_criteria

if TYPE_CHECKING:
    from exporter.report.leaderboard.plots import Plot

FORMATS = ("table", "json", "csv", "markdown", "html")


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "leaderboard", help="Rank runs by emissions and results.", description=__doc__
    )
    parser.add_argument(
        "run_ids", metavar="RUN", nargs="*", help="Ids or names of runs (default: all runs)."
    )
    parser.add_argument(
        "--from",
        dest="files",
        nargs="+",
        default=[],
        metavar="FILE",
        help="JSON records. With --prometheus, only the logged values are read from them.",
    )
    run_sources.add_flags(parser)
    arguments.add_prometheus_server(parser)
    arguments.add_run_filters(parser)
    _add_ranking_options(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="Format of the output.")
    parser.add_argument("--output", metavar="FILE", help="Output file (default: standard output).")
    parser.add_argument(
        "--plots", metavar="DIRECTORY", help="Also write plots to this directory, as PNG and SVG."
    )
    parser.set_defaults(main=main)


def _add_ranking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sort",
        choices=[key.value for key in SortKey],
        default=SortKey.GRAMS.value,
        help="Sort key, best first. Runs that have not ended follow without a rank.",
    )
    parser.add_argument(
        "--reverse",
        action="store_true",
        help="Reverse the order of ended runs and of the others. With --sort idle, the runs with "
        "the most idle energy are first.",
    )
    parser.add_argument(
        "--top", type=arguments.count, metavar="N", help="Print only the first N runs."
    )
    parser.add_argument(
        "--metric", default="", metavar="NAME", help="Logged value that is the result of a run."
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--higher-is-better",
        dest="higher",
        action="store_true",
        default=None,
        help="A larger result is better.",
    )
    way.add_argument(
        "--lower-is-better",
        dest="higher",
        action="store_false",
        help="A smaller result is better, as for a loss.",
    )
    parser.add_argument(
        "--size",
        default="",
        metavar="NAME",
        help="Logged value that sets the area of a bubble (default: parameters).",
    )
    parser.add_argument(
        "--per",
        default="",
        metavar="UNIT",
        help="Show grams per unit that runs counted: tokens, requests.",
    )


def main(options: argparse.Namespace) -> int:
    """Print the ranked runs."""
    arguments.check_prometheus_options("leaderboard", options)
    if options.files and (flag := arguments.local_source(options)):
        raise ConfigError(
            f"leaderboard: {flag} cannot be used with --from: no daemon and no ledger is read"
        )
    now = SystemClock().wall()
    found = list(_load_records(options, now))
    runs = attach_serving_runs(make_entries(found))
    _reject_unknown(options.run_ids, runs)
    selected = [run for run in runs if _is_selected(run, options, now)]
    criteria = choose_criteria(
        selected,
        SortKey(options.sort),
        options.metric,
        options.size,
        options.per,
        higher_is_better=options.higher,
    )
    board = make_leaderboard(selected, criteria, options.top, reverse=options.reverse)
    if not selected and found:
        board = board._replace(notes=(f"None of {len(found)} runs matches the filters.",))
    _write_output(_render(board, options.format, now), options.output)
    if options.plots:
        from exporter.report.leaderboard import plots

        for path in plots.write_plots(board, options.plots):
            print(path, file=sys.stderr)
    return 0


def _load_records(options: argparse.Namespace, now: float) -> Iterable[Record]:
    """Return the records that match the filters, from Prometheus, files, daemon or ledger."""
    if options.prometheus:
        fleet = _load_fleet_records(options, now)
        if options.group is not None and not any(run["labels"].get("group") for run in fleet):
            raise ConfigError(
                "leaderboard: --group: no run in this Prometheus has the label `group`; set "
                "`exported_labels: [group]` under `attribute:` in the exporters' settings file"
            )
        return _add_logged_values(fleet, options.files)
    if options.files:
        found = _read_record_files(options.files)
        return [
            run
            for run in found
            if options.namespace in (None, run.get("namespace"))
            and options.account in (None, run.get("account"))
        ]
    with run_sources.opened(options) as source:
        filters = arguments.names(options)
        found = source.runs(**filters)
    texts = [f"{name.removesuffix('_id')} {value}" for name, value in filters.items() if value]
    if texts and not found:
        raise ConfigError(f"leaderboard: no run of {', '.join(texts)} is known on this machine")
    return found


def _load_fleet_records(options: argparse.Namespace, now: float) -> list[dict[str, Any]]:
    from exporter.report.fleet import fleet_records  # imported here because it takes 0.1 s
    from exporter.report.prometheus_queries import RunSelector

    wanted = RunSelector(
        job_id=options.job_id,
        user=options.user,
        namespace=options.namespace,
        account=options.account,
    )
    since = options.since or arguments.DEFAULT_LOOKBACK_SECONDS
    ago = since if isinstance(since, float) else now - since.timestamp()
    return fleet_records(arguments.open_prometheus(options), wanted, max(ago, 1.0))


def _add_logged_values(fleet: Iterable[Record], files: Iterable[str]) -> list[Record]:
    """Add logged values, which no metric has, from the record files to the runs with these ids."""
    logged: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(_read_record_files(files), key=lambda each: float(each["at"])):
        values = logged.setdefault((record["run_id"], record["job_id"]), {})
        values.update(record.get("logged") or {})
    return [{**run, "logged": logged.get((run["run_id"], run["job_id"]), {})} for run in fleet]


def _read_record_files(files: Iterable[str]) -> list[dict[str, Any]]:
    return [record for path in files for record in records.read_records(path)]


def _is_selected(run: LeaderboardEntry, options: argparse.Namespace, now: float) -> bool:
    grams = math.nan if run.are_grams_unknown else run.grams
    return (
        (not options.run_ids or _is_named(run, options.run_ids))
        and options.job_id in (None, run.job_id)
        and options.user in (None, run.user)
        and options.group in (None, run.group)
        and arguments.is_selected(options, now, started=run.started, grams=grams)
    )


def _reject_unknown(wanted: Sequence[str], runs: Sequence[LeaderboardEntry]) -> None:
    """Raise ConfigError for ids and names that no run has: a table without them looks complete."""
    serving = [each for run in runs for each in run.serving_runs]
    for name in wanted:
        if any(_is_named(run, [name]) for run in runs):
            continue
        if any(_is_named(run, [name]) for run in serving):
            raise ConfigError(
                f"leaderboard: {name!r:.200} uses the result of another run and is shown in the "
                "row of that run"
            )
        raise ConfigError(
            f"leaderboard: no run has the id or name {name!r:.200}; omit RUN to show all runs"
        )


def _is_named(run: LeaderboardEntry, wanted: Sequence[str]) -> bool:
    return run.run_id in wanted or (run.name != "" and run.name in wanted)


def _render(board: Leaderboard, form: str, now: float) -> str:
    match form:
        case "json" | "csv":
            from exporter.report.leaderboard import formats

            return formats.to_json(board) if form == "json" else formats.to_csv(board)
        case "html":
            from exporter.report.leaderboard.page import render_page

            return render_page(board, _make_plots(board), now, __version__)
        case _:
            from exporter.report.leaderboard import formats

            return formats.text_table(board) if form == "table" else formats.markdown_table(board)


def _make_plots(board: Leaderboard) -> "list[Plot]":
    """Return the plots of the page; none, and a message, if matplotlib is not installed."""
    from exporter.report.leaderboard.plots import make_plots

    try:
        return make_plots(board)
    except ConfigError as error:
        print(f"emissions-exporter: the page has no plots: {error}", file=sys.stderr)
        return []


def _write_output(text: str, path: str | None) -> None:
    safe = text.encode("utf-8", "backslashreplace").decode()
    if path is None:
        if sys.stdout.isatty():  # files of other people have names with any character
            lines = safe.replace("\r\n", "\n").split("\n")
            safe = "\n".join(map(formatting.printable, lines))
        print(safe)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            print(safe, file=file)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}") from None
