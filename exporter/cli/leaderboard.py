"""`leaderboard`: runs against each other, by what they used and by what came of it.

From the daemon of this machine, where none answers from its ledger; with --prometheus over all
nodes, or with --from from files.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from exporter import __version__
from exporter.cli import arguments, history
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
        "leaderboard", help="Compare runs with each other.", description=__doc__
    )
    parser.add_argument("run_ids", metavar="RUN", nargs="*", help="Ids or names; else all runs.")
    parser.add_argument(
        "--from",
        dest="files",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Records, JSON. With --prometheus only what they logged is taken from them.",
    )
    history.add_flags(parser)
    arguments.add_prometheus_server(parser)
    arguments.add_run_filters(parser)
    _add_ranking_options(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="Format of the output.")
    parser.add_argument(
        "--output", metavar="FILE", help="Write to this file instead of standard output."
    )
    parser.add_argument(
        "--plots", metavar="DIRECTORY", help="Write the plots there too, as PNG and SVG."
    )
    parser.set_defaults(main=main)


def _add_ranking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sort", choices=tuple(SortKey), default=SortKey.GRAMS, help="What is best first."
    )
    parser.add_argument(
        "--reverse",
        action="store_true",
        help="Begin with the last, as with --sort idle for the runs that held most for nothing.",
    )
    parser.add_argument(
        "--top", type=arguments.count, metavar="N", help="Print no more runs than that."
    )
    parser.add_argument(
        "--metric", default="", metavar="NAME", help="The result: a number that runs logged."
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--higher-is-better",
        dest="higher",
        action="store_true",
        default=None,
        help="The largest result is the best.",
    )
    way.add_argument(
        "--lower-is-better",
        dest="higher",
        action="store_false",
        help="The smallest result is the best, as of a loss.",
    )
    parser.add_argument(
        "--size",
        default="",
        metavar="NAME",
        help="What sets the area of a bubble: a number that runs logged; else `parameters`.",
    )
    parser.add_argument(
        "--per",
        default="",
        metavar="UNIT",
        help="Grams for each of a unit that runs counted: tokens, requests.",
    )


def main(options: argparse.Namespace) -> int:
    """Print the runs in order."""
    now = SystemClock().wall()
    found = list(_load_records(options, now))
    runs = attach_serving_runs(make_entries(found))
    _refuse_unknown(options.run_ids, runs)
    chosen = [run for run in runs if _is_selected(run, options, now)]
    asked = choose_criteria(
        chosen,
        SortKey(options.sort),
        options.metric,
        options.size,
        options.per,
        higher_is_better=options.higher,
    )
    made = make_leaderboard(chosen, asked, options.top, reverse=options.reverse)
    if not chosen and found:
        made = made._replace(notes=(f"None of {len(found)} records of runs is as asked for.",))
    _write_output(_render(made, options.format, now), options.output)
    if options.plots:
        from exporter.report.leaderboard import plots

        for path in plots.write_plots(made, options.plots):
            print(path, file=sys.stderr)
    return 0


def _load_records(options: argparse.Namespace, now: float) -> Iterable[Record]:
    """The records that are asked for, of each node or of all together."""
    if options.prometheus:
        fleet = _load_fleet_records(options, now)
        if options.group is not None and not any(run["labels"].get("group") for run in fleet):
            raise ConfigError(
                "leaderboard: --group: no run in this Prometheus has the label `group`; write "
                "`exported_labels: [group]` under `attribute:` in the exporters' settings file"
            )
        return _add_logged_values(fleet, options.files)
    if options.files:
        found = _read_record_files(options.files)
        return [run for run in found if options.namespace in (None, run.get("namespace"))]
    with history.opened(options) as known:
        named = arguments.names(options)
        found = known.runs(**named)
    of = [f"{name.removesuffix('_id')} {value}" for name, value in named.items() if value]
    if of and not found:
        raise ConfigError(f"leaderboard: no run of {', '.join(of)} is known on this machine")
    return found


def _load_fleet_records(options: argparse.Namespace, now: float) -> list[dict[str, Any]]:
    from exporter.report.fleet import fleet_records  # 0.1 s that others need not wait
    from exporter.report.prometheus_queries import RunSelector

    wanted = RunSelector(job_id=options.job_id, user=options.user, namespace=options.namespace)
    since = options.since or arguments.DEFAULT_LOOKBACK_SECONDS
    ago = since if isinstance(since, float) else now - since.timestamp()
    return fleet_records(arguments.open_prometheus(options), wanted, max(ago, 1.0))


def _add_logged_values(fleet: Iterable[Record], files: Iterable[str]) -> list[Record]:
    """What runs logged is in no metric; records of the same ids may say it."""
    logged: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(_read_record_files(files), key=lambda each: float(each["at"])):
        said = logged.setdefault((record["run_id"], record["job_id"]), {})
        said.update(record.get("logged") or {})
    return [{**run, "logged": logged.get((run["run_id"], run["job_id"]), {})} for run in fleet]


def _read_record_files(files: Iterable[str]) -> list[dict[str, Any]]:
    return [record for path in files for record in records.read_records(path)]


def _is_selected(run: LeaderboardEntry, options: argparse.Namespace, now: float) -> bool:
    return (
        (not options.run_ids or _is_named(run, options.run_ids))
        and options.job_id in (None, run.job_id)
        and options.user in (None, run.user)
        and options.group in (None, run.group)
        and arguments.is_selected(options, now, started=run.started, grams=run.grams)
    )


def _refuse_unknown(wanted: Sequence[str], runs: Sequence[LeaderboardEntry]) -> None:
    """Refuse ids and names that no run has: a table without them would look complete."""
    used = [each for run in runs for each in run.serving_runs]
    for name in wanted:
        if any(_is_named(run, [name]) for run in runs):
            continue
        if any(_is_named(run, [name]) for run in used):
            raise ConfigError(
                f"leaderboard: {name!r:.200} uses the outcome of another run, and is shown in the "
                "row of that one"
            )
        raise ConfigError(
            f"leaderboard: no run has the id or the name {name!r:.200}; without RUN all are shown"
        )


def _is_named(run: LeaderboardEntry, wanted: Sequence[str]) -> bool:
    return run.run_id in wanted or (run.name != "" and run.name in wanted)


def _render(made: Leaderboard, form: str, now: float) -> str:
    match form:
        case "json" | "csv":
            from exporter.report.leaderboard import formats

            return formats.to_json(made) if form == "json" else formats.to_csv(made)
        case "html":
            from exporter.report.leaderboard.page import render_page

            return render_page(made, _make_plots(made), now, __version__)
        case _:
            from exporter.report.leaderboard import formats

            return formats.text_table(made) if form == "table" else formats.markdown_table(made)


def _make_plots(made: Leaderboard) -> "list[Plot]":
    """The plots of the page; none where matplotlib is not installed, and a hint on stderr."""
    from exporter.report.leaderboard.plots import make_plots

    try:
        return make_plots(made)
    except ConfigError as error:
        print(f"emissions-exporter: the page has no plots: {error}", file=sys.stderr)
        return []


def _write_output(text: str, path: str | None) -> None:
    safe = text.encode("utf-8", "backslashreplace").decode()
    if path is None:
        print(safe)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            print(safe, file=file)
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}") from None
