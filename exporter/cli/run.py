"""`run -- COMMAND`: a command as a run, with a receipt at the end."""

import argparse
import ctypes
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from exporter import formatting, units
from exporter.cli.arguments import add_socket_flag, parse_grams, parse_labels
from exporter.client import agent_client, private_daemon
from exporter.client.agent_client import AgentClient
from exporter.client.environment import TRACKED_RUN_ID_VARIABLE, tracked
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.sockets import configured_socket
from exporter.errors import ConfigError
from exporter.report.forms.text import receipt, status_line
from exporter.report.inner import with_inner

NOT_FOUND, NOT_EXECUTABLE, SIGNAL_BASE = 127, 126, 128
"""Exit codes of a shell."""
STATUS_SECONDS = 1.0
"""What a status line may wait for; signals wait as long."""
CLEAR_LINE = "\r\x1b[K"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "run", help="Run a command, and print a summary when it exits.", description=__doc__
    )
    parser.add_argument("--run-id", default="", help="Its id; the daemon makes one if not given.")
    parser.add_argument("--job-id", default="", help="The job that it belongs to.")
    parser.add_argument("--name", default="", help="A name for people.")
    parser.add_argument(
        "--group", default="", metavar="NAME", help="A label that the runs of a sweep share."
    )
    parser.add_argument(
        "--label", action="append", default=[], metavar="K=V", help="A label; repeatable."
    )
    parser.add_argument(
        "--budget-grams",
        type=parse_grams,
        metavar="G",
        help="Grams of CO2 equivalent that it may emit: a warning is printed when it has emitted "
        "more, and the command continues.",
    )
    parser.add_argument(
        "--scope", choices=("tree", "cgroup", "machine"), default="tree", help="What belongs to it."
    )
    parser.add_argument("--output", metavar="FILE", help="Write the record there, JSON.")
    parser.add_argument(
        "--dvc", metavar="FILE", help="Write its energy and grams there, as metrics of DVC."
    )
    add_socket_flag(parser)
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Start a daemon where none answers and no socket is named; it ends with the last run.",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the command; its exit code is ours. The command runs even if nothing can measure it."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ConfigError(
            "run: no command given; write it after --, as in `run -- python train.py`"
        )
    agent = AgentClient(options.socket)
    labels = {**parse_labels(options.label), **({"group": options.group} if options.group else {})}
    record = _register(agent, options, labels)
    is_terminal = sys.stderr.isatty()
    watcher = None
    if record is not None and (is_terminal or options.budget_grams is not None):
        looking = AgentClient(options.socket, STATUS_SECONDS)
        watcher = _Watcher(looking, record, options.budget_grams, shows_status=is_terminal)
    try:
        code = run_child(command, _child_environment(record), watcher)
    except OSError as error:
        print(f"emissions-exporter: {command[0]}: {error.strerror}", file=sys.stderr)
        code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    if is_terminal:
        _write_status_line("")
    final = _end_run(agent, record, options.output) if record is not None else None
    if options.dvc:
        _write_dvc_metrics(options.dvc, final or {})
    return code if code >= 0 else SIGNAL_BASE - code


def _register(
    agent: AgentClient, options: argparse.Namespace, labels: dict[str, str]
) -> dict[str, Any] | None:
    """The run's record; None where none of its own is kept, which is said."""
    start = partial(
        agent.start,
        run_id=options.run_id,
        job_id=options.job_id,
        name=options.name,
        labels=labels,
        scope=options.scope,
        budget_grams=options.budget_grams,
    )
    try:
        record = _begin(start, may_start=options.private and not configured_socket(options.socket))
    except (AgentRefusal, AgentUnreachable) as error:
        print(f"emissions-exporter: not measured: {error}", file=sys.stderr)
        return None
    if record["run_id"] == agent_client.OTHER_RUN_ID:
        print(
            "emissions-exporter: the daemon shows as many runs as it may (attribute.max_runs): "
            f"this one is counted in `{agent_client.OTHER_RUN_ID}` and gets no receipt of its own",
            file=sys.stderr,
        )
        return None
    return record


def _begin(start: Callable[[], dict[str, Any]], *, may_start: bool) -> dict[str, Any]:
    """Register the run; where no daemon answers, with one that is started for it.

    Raises AgentRefusal and AgentUnreachable.
    """
    try:
        return agent_client.register_with_retry(start)
    except AgentUnreachable as error:
        if not may_start:
            raise AgentUnreachable(
                f"no daemon answered ({error}); start one with `emissions-exporter serve` to "
                "measure the next run"
            ) from None
    private_daemon.start_private_daemon(os.environ)
    return agent_client.register_with_retry(start)


def _child_environment(record: dict[str, Any] | None) -> dict[str, str]:
    """Ours, with the ids of the run, so that a process that leaves the tree is still found.

    A tracker in the command is a run inside that one: else their energies would be one sum.
    """
    if record is None:
        return dict(os.environ)
    ids = {
        "EMISSIONS_RUN_ID": str(record["run_id"]),
        "EMISSIONS_JOB_ID": str(record["job_id"]),
        TRACKED_RUN_ID_VARIABLE: tracked(os.environ, str(record["run_id"])),
    }
    return {**os.environ, **{name: value for name, value in ids.items() if value}}


class _Watcher:
    """Shows the run on a terminal, and warns once when it has emitted more than its budget."""

    def __init__(
        self,
        agent: AgentClient,
        record: dict[str, Any],
        budget_grams: float | None,
        *,
        shows_status: bool,
    ) -> None:
        self._agent = agent
        self._record = record
        self._budget_grams = budget_grams
        self._has_line = shows_status

    def __call__(self) -> None:
        """Look once."""
        try:
            now = self._agent.run(self._record["run_id"], self._record["job_id"])
        except (AgentUnreachable, AgentRefusal):
            return
        grams = units.grams(now["carbon_ng"])
        if self._budget_grams is not None and grams > self._budget_grams:
            if self._has_line:
                _write_status_line("")
            print(
                f"emissions-exporter: run {now['run_id']} has emitted {grams:.4g} g CO2eq, more "
                f"than its budget of {self._budget_grams:g} g; the command continues",
                file=sys.stderr,
            )
            self._budget_grams = None
        if self._has_line:
            _write_status_line(status_line(now))


def _write_status_line(status: str) -> None:
    """Replace the status line, no longer than the terminal is wide, or it would stay above.

    A terminal that is gone is no reason to stop.
    """
    with suppress(OSError):
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        sys.stderr.write(CLEAR_LINE + (status[: columns - 1] if columns else status))
        sys.stderr.flush()


def _end_run(
    agent: AgentClient, record: dict[str, Any], output: str | None
) -> dict[str, Any] | None:
    """End the run, print its receipt, and write its record if that was asked for.

    The last record; None if there is none.
    """
    try:
        final = agent_client.end_with_retry(agent, record["run_id"], record["job_id"])
    except AgentRefusal as refusal:
        print(f"emissions-exporter: no receipt: {refusal}", file=sys.stderr)
        return None
    except AgentUnreachable as error:
        print(
            f"emissions-exporter: no receipt: the daemon is gone ({error}); when it is back: "
            f"emissions-exporter report {shlex.quote(record['run_id'])}",
            file=sys.stderr,
        )
        return None
    with suppress(AgentRefusal, AgentUnreachable):
        final = with_inner(final, agent.inside)
    if output:
        try:
            with open(output, "w", encoding="utf-8") as file:
                json.dump(final, file, indent=2)
                file.write("\n")
        except OSError as error:
            print(f"emissions-exporter: {output}: {error.strerror}", file=sys.stderr)
    print(receipt(final), file=sys.stderr)
    if record["energy_uj"]:
        print(_continued(record, final), file=sys.stderr)
    return final


def _continued(before: dict[str, Any], final: dict[str, Any]) -> str:
    """That the run was there before the command, and what it used since."""
    energy_uj, carbon_ng = (final[name] - before[name] for name in ("energy_uj", "carbon_ng"))
    return (
        f"  continued: the run existed before, and its totals are in these. This command used "
        f"{formatting.number(units.joules(energy_uj))} J, {formatting.carbon(carbon_ng)} CO2eq "
        "of them"
    )


def _write_dvc_metrics(path: str, record: dict[str, Any]) -> None:
    from exporter.integrations import dvc

    try:
        dvc.write(path, record)
    except OSError as error:
        print(f"emissions-exporter: {path}: {error.strerror}", file=sys.stderr)


PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): what the command leaves behind becomes a child of this process, not of init."""
POLL_INTERVAL_SECONDS = 1.0
KEYBOARD_SIGNALS = frozenset({signal.SIGINT, signal.SIGQUIT})
FORWARDED_SIGNALS = KEYBOARD_SIGNALS | {
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
WATCHED_SIGNALS = FORWARDED_SIGNALS | {signal.SIGCHLD}
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def run_child(
    command: list[str],
    environment: Mapping[str, str],
    meanwhile: Callable[[], None] | None = None,
) -> int:
    """Run a command to its end; its exit code, or minus the number of the signal that ended it.

    `meanwhile` is called about once a second. Orphans of the command that outlive it are let go.
    Raises OSError if it cannot be started.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, exit codes are lost
    # blocked signals wait in the kernel until they are asked for, so none is missed or interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED_SIGNALS)
    try:
        child = os.posix_spawnp(
            command[0], command, environment, setsigmask=before, setsigdef=IGNORED_BY_PYTHON
        )
        return _wait_for_child(child, meanwhile)
    finally:
        while signal.sigtimedwait(FORWARDED_SIGNALS, 0):  # these were meant for the command
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_for_child(child: int, meanwhile: Callable[[], None] | None) -> int:
    due = time.monotonic() + POLL_INTERVAL_SECONDS
    while True:
        received = signal.sigtimedwait(WATCHED_SIGNALS, max(0.0, due - time.monotonic()))
        if received is None or received.si_signo == signal.SIGCHLD:
            code = _reap(child)  # each time: the kernel may give SIGCHLD to another thread
            if code is not None:
                return code
            if received is None:
                if meanwhile:
                    meanwhile()
                due = time.monotonic() + POLL_INTERVAL_SECONDS
        elif not _was_sent_to_group(received):
            os.kill(child, received.si_signo)


def _was_sent_to_group(received: signal.struct_siginfo) -> bool:
    """Whether the kernel sent it for a key that was pressed: then the child has got it as well."""
    return received.si_signo in KEYBOARD_SIGNALS and received.si_code > 0


def _reap(child: int) -> int | None:
    """Take leave of every child that has ended; the exit code of `child` if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
