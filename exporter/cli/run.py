"""`run -- COMMAND`: a command as a run, with a receipt at the end."""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from exporter.client.agent import Agent
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.errors import ConfigError
from exporter.report.forms.text import receipt, status_line

PR_SET_CHILD_SUBREAPER = 36
REFRESH_SECONDS = 1.0
NOT_FOUND, NOT_EXECUTABLE, SIGNAL_BASE = 127, 126, 128
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "run", help="Run a command, and say what it used.", description=__doc__
    )
    parser.add_argument("--run-id", default="", help="Its id; the daemon makes one if not given.")
    parser.add_argument("--job-id", default="", help="The job that it belongs to.")
    parser.add_argument("--name", default="", help="A name for people.")
    parser.add_argument("--label", action="append", default=[], metavar="K=V")
    parser.add_argument("--budget-grams", type=float, metavar="G", help="What it may emit.")
    parser.add_argument(
        "--scope", choices=("tree", "cgroup"), default="tree", help="What belongs to it."
    )
    parser.add_argument("--output", metavar="FILE", help="Write the record there, JSON.")
    parser.add_argument("--socket.path", dest="socket", default="", metavar="PATH")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the command; its exit code is ours. The command runs even if no daemon answers."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ConfigError(
            "run: no command given; write it after --, as in `run -- python train.py`"
        )
    labels = dict(_pair(text) for text in options.label)
    agent = Agent(options.socket)
    record = _register(agent, options, labels)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = subprocess.Popen(command, env=_environment(record))  # noqa: S603  its purpose
    except OSError as error:
        print(f"emissions-exporter: {command[0]}: {error.strerror}", file=sys.stderr)
        _finish(agent, record, None)
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    for number in FORWARDED:
        signal.signal(number, lambda received, _: _forward(child, received))
    code = _watch(child, agent, record)
    _finish(agent, record, options.output)
    return code if code >= 0 else SIGNAL_BASE - code


def _register(
    agent: Agent, options: argparse.Namespace, labels: dict[str, str]
) -> dict[str, Any] | None:
    try:
        return agent.start(
            run_id=options.run_id,
            job_id=options.job_id,
            name=options.name,
            labels=labels,
            scope=options.scope,
            budget_grams=options.budget_grams,
        )
    except (AgentUnreachable, AgentRefusal) as error:
        print(
            f"emissions-exporter: not measured: {error}; start a daemon with "
            "`emissions-exporter serve` to measure the next run",
            file=sys.stderr,
        )
        return None


def _environment(record: dict[str, Any] | None) -> dict[str, str]:
    """Ours, with the ids of the run, so that a process that leaves the tree is still found."""
    if record is None:
        return dict(os.environ)
    ids = {"EMISSIONS_RUN_ID": str(record["run_id"]), "EMISSIONS_JOB_ID": str(record["job_id"])}
    return {**os.environ, **{name: value for name, value in ids.items() if value}}


def _forward(child: "subprocess.Popen[bytes]", number: int) -> None:
    """Pass a signal on. What a terminal sends, it has sent to the child as well."""
    from_terminal = number in (signal.SIGINT, signal.SIGQUIT) and sys.stdin.isatty()
    if not from_terminal and child.poll() is None:
        child.send_signal(number)


def _watch(child: "subprocess.Popen[bytes]", agent: Agent, record: dict[str, Any] | None) -> int:
    """Wait for the child; on a terminal, say each second what the run uses."""
    if record is None or not sys.stderr.isatty():
        return child.wait()
    while True:
        try:
            code = child.wait(REFRESH_SECONDS)
        except subprocess.TimeoutExpired:
            _say(agent, record)
            continue
        sys.stderr.write("\r\x1b[K")
        return code


def _say(agent: Agent, record: dict[str, Any]) -> None:
    try:
        now = agent.run(record["run_id"], record["job_id"])
    except (AgentUnreachable, AgentRefusal):
        return
    sys.stderr.write("\r\x1b[K" + status_line(now))
    sys.stderr.flush()


def _finish(agent: Agent, record: dict[str, Any] | None, output: str | None) -> None:
    """End the run, print its receipt, and write its record if that was asked for."""
    if record is None:
        return
    final = _end(agent, record)
    if final is None:
        return
    print(receipt(final), file=sys.stderr)
    if output:
        try:
            with open(output, "w", encoding="utf-8") as file:
                json.dump(final, file, indent=2)
                file.write("\n")
        except OSError as error:
            print(f"emissions-exporter: {output}: {error.strerror}", file=sys.stderr)


def _end(
    agent: Agent, record: dict[str, Any], patience_seconds: float = 10.0
) -> dict[str, Any] | None:
    """End the run; a daemon that is just restarting is given some time."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return agent.end(record["run_id"], record["job_id"])
        except AgentRefusal as error:
            print(f"emissions-exporter: no receipt: {error}", file=sys.stderr)
            return None
        except AgentUnreachable as error:
            if time.monotonic() > deadline:
                print(
                    f"emissions-exporter: no receipt: the daemon is gone ({error}); when it is "
                    f"back: emissions-exporter report {record['run_id']}",
                    file=sys.stderr,
                )
                return None
            time.sleep(0.2)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"--label {text}: expected NAME=VALUE, as in --label team=nlp")
    return name, value
