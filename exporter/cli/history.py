"""The runs of this machine: from the daemon, or where none answers, from the ledgers it left."""

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from exporter import formatting
from exporter.cli.arguments import add_socket_flag
from exporter.client import private_daemon
from exporter.client.agent_client import AgentClient
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.sockets import configured_socket
from exporter.config import SYSTEM_STATE_DIRECTORY
from exporter.errors import ConfigError, LedgerError
from exporter.model.record import GroupBy, RunFilter, record_to_json, totals_to_json
from exporter.setting import variable

if TYPE_CHECKING:
    from exporter.account.reading import LedgerReader, Shared

T = TypeVar("T")
MOST_NAMED = 5
"""Ids in a note about runs that several ledgers have."""
NODE = variable("expose.node")


class Runs(Protocol):
    """What can be asked about runs; the answers are documents in the form of the agent's."""

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        """The record of one run. Raises AgentRefusal where there is none."""

    def runs(
        self,
        *,
        run_id: str | None = None,
        job_id: str | None = None,
        user: str | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> list[dict[str, Any]]:
        """Records of runs, newest first."""

    def inside(self, run_id: str) -> list[dict[str, Any]]:
        """Records of the runs that began directly inside another one."""

    def aggregate_runs(
        self,
        by: str,
        since: float,
        *,
        job_id: str | None = None,
        user: str | None = None,
        group: str | None = None,
        namespace: str | None = None,
    ) -> dict[str, Any]:
        """Records of some runs, and sums of all others, by job, group, user or namespace."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where runs are read."""
    add_socket_flag(parser)
    parser.add_argument(
        "--path.state",
        dest="state",
        default="",
        metavar="PATH",
        help="Read the ledger in this state directory, and ask no daemon.",
    )


def find(
    known: Runs, run: str, job_id: str | None, *, may_be_several: bool = False
) -> dict[str, Any]:
    """The record of the run with that id, else of the only run with that name.

    Where it `may_be_several`, the newest of them is it, and the others are named on stderr.
    """
    try:
        return known.run(run, job_id)
    except AgentRefusal as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        named = [each for each in known.runs(job_id=job_id) if each.get("name") == run]
        if not named:
            raise
    newest, *others = named
    if others and not may_be_several:
        raise ConfigError(
            f"{len(named)} runs are named {run!r:.200}; give the id of one: {_ids(named)}"
        )
    if others:
        _say(
            f"{len(named)} runs are named {run!r:.200}; this is the newest, {newest['run_id']}. "
            f"The ids of the others: {_ids(others)}"
        )
    return newest


def _ids(runs: Sequence[dict[str, Any]]) -> str:
    """Ids of runs, the first of them."""
    more = ", ..." if len(runs) > MOST_NAMED else ""
    return ", ".join(str(each["run_id"]) for each in runs[:MOST_NAMED]) + more


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[Runs]:
    """Where the flags say that runs are read."""
    with contextlib.ExitStack() as held:
        agent = AgentClient(options.socket)
        if options.state:
            yield _LedgerRuns([_ledger(options.state, held)])
        elif configured_socket(options.socket):
            yield agent
        else:
            yield _AgentOrLedgers(agent, held)


def state_directories() -> list[str]:
    """Directories where daemons of this user, and the system's, keep totals."""
    base = os.environ.get("XDG_STATE_HOME")
    found = [
        os.environ.get(private_daemon.STATE_DIRECTORY_VARIABLE, ""),
        os.path.join(base, "emissions-exporter") if base else "",
        private_daemon.home_state_directory(),
        SYSTEM_STATE_DIRECTORY,
    ]
    known = (path for path in found if path and not path.startswith("~"))  # a user without a home
    return list({os.path.realpath(path): path for path in known}.values())


class _AgentOrLedgers:
    """Asks the daemon that is found; where none answers, the ledgers of this user."""

    def __init__(self, agent: AgentClient, held: contextlib.ExitStack) -> None:
        self._agent = agent
        self._held = held
        self._ledgers: _LedgerRuns | None = None

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        try:
            return self._ask(lambda known: known.run(run_id, job_id))
        except AgentRefusal as refusal:
            if self._ledgers is not None or refusal.status != HTTPStatus.NOT_FOUND:
                raise
            with contextlib.suppress(AgentRefusal, LedgerError):
                if ledgers := self._others():
                    return _LedgerRuns(ledgers).run(run_id, job_id)
            raise

    def runs(self, **wanted: str | None) -> list[dict[str, Any]]:
        found = self._ask(lambda known: known.runs(**wanted))
        self._name_others()
        return found

    def inside(self, run_id: str) -> list[dict[str, Any]]:
        return self._ask(lambda known: known.inside(run_id))

    def aggregate_runs(self, by: str, since: float, **wanted: str | None) -> dict[str, Any]:
        found = self._ask(lambda known: known.aggregate_runs(by, since, **wanted))
        self._name_others()
        return found

    def _ask(self, question: Callable[[Runs], T]) -> T:
        if self._ledgers is None:
            try:
                return question(self._agent)
            except AgentUnreachable as error:
                directories = state_directories()
                if not (ledgers := _found(directories, self._held, _say)):
                    places = ", ".join(directories)
                    raise AgentUnreachable(f"{error}; and no ledger is in {places}") from None
                self._ledgers = _LedgerRuns(ledgers, "no daemon answered; ")
        return question(self._ledgers)

    def _others(self) -> "list[LedgerReader]":
        """The ledgers of this user that are not the one of the daemon that answers.

        None where that is older and does not say which one it has. Its own may be one that this
        user cannot read.
        """
        if not (ledger_id := self._agent.ledger_id()):
            return []
        ledgers = _found(state_directories(), self._held, lambda _: None)
        return [each for each in ledgers if each.ledger_id() != ledger_id]

    def _name_others(self) -> None:
        """Say which runs are not in what the daemon answered."""
        if self._ledgers is not None:
            return
        try:
            others = self._others()
        except LedgerError as error:
            _say(f"not included: {error}")
            return
        for ledger in others:
            if count := len(ledger.run_keys()):
                _say(
                    f"not included, since the daemon that answered has another ledger: "
                    f"{ledger.path} has {count} run{'s' if count > 1 else ''} more; "
                    f"--path.state={os.path.dirname(ledger.path)} shows them"
                )


class _LedgerRuns:
    """Answers from ledgers, in the form of the agent's answers; prints their source on stderr."""

    def __init__(self, ledgers: "Sequence[LedgerReader]", occasion: str = "") -> None:
        from exporter.account.reading import Ledgers  # SQLite, which other commands need not load

        self._ledgers = Ledgers(ledgers)
        self._occasion = occasion
        self._is_said = False

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        wanted = RunFilter(run_id, job_id)
        found = self._ledgers.runs(wanted)
        if not found:
            of_job = "" if job_id is None else f" of job {job_id!r}"
            raise AgentRefusal(
                HTTPStatus.NOT_FOUND,
                f"{self._occasion}no run {run_id!r}{of_job} is in {self._places()}",
            )
        self._say_source()
        self._say_shared(wanted)
        best = max(found, key=lambda record: (record.run.ended is None, record.run.started))
        return {**record_to_json(best), "power_watts": None}

    def runs(self, **named: str | None) -> list[dict[str, Any]]:
        wanted = _wanted(**named)
        found = self._ledgers.runs(wanted)
        self._say_source()
        self._say_shared(wanted)
        return [record_to_json(record) for record in found]

    def inside(self, run_id: str) -> list[dict[str, Any]]:
        return [record_to_json(record) for record in self._ledgers.runs(RunFilter(inside=run_id))]

    def aggregate_runs(self, by: str, since: float, **named: str | None) -> dict[str, Any]:
        wanted, models = _wanted(**named), self._ledgers.models
        sums = self._ledgers.sums(GroupBy(by), since, wanted)
        runs = [each.record for each in self._ledgers.shared(wanted, since)]
        self._say_source()
        self._say_shared(wanted, since)
        return {
            "sums": [totals_to_json(each, models) for each in sums],
            "runs": [record_to_json(record) for record in runs],
        }

    def _places(self) -> str:
        return ", ".join(ledger.path for ledger in self._ledgers.ledgers)

    def _say_source(self) -> None:
        if self._is_said:
            return
        self._is_said = True
        _say(f"{self._occasion}runs are read from {self._places()}")
        for ledger in self._ledgers.ledgers:
            until = ledger.committed_until
            if until is not None:
                when = f"after {formatting.timestamp(until)} UTC" if until else "since its begin"
                _say(
                    f"{ledger.path} lacks the energy used {when}: its daemon is running, or was "
                    "killed; then the next one adds it from the journal, if on the same boot"
                )

    def _say_shared(self, wanted: RunFilter, since: float = 0.0) -> None:
        found = self._ledgers.shared(wanted, since)
        if added := [each for each in found if len(each.counted) > 1]:
            _say(f"of {_named(added)}, the records of several ledgers are added up")
        if doubled := [each for each in found if each.excluded]:
            energy_uj = sum(record.energy_uj for each in doubled for record in each.excluded)
            _say(
                f"of {_named(doubled)}, several ledgers have records of the same time: the one "
                f"with the most energy counts, {formatting.energy(energy_uj)} of the others do not"
            )


def _wanted(
    run_id: str | None = None,
    job_id: str | None = None,
    user: str | None = None,
    group: str | None = None,
    namespace: str | None = None,
) -> RunFilter:
    return RunFilter(run_id or "", job_id, user or "", group or "", namespace or "")


def _found(
    directories: Sequence[str], held: contextlib.ExitStack, say: Callable[[str], None]
) -> "list[LedgerReader]":
    """The ledgers in state directories; `say` reports each one that may not be read."""
    from exporter.account.reading import ledger_in

    readable = []
    for directory in directories:
        path = ledger_in(directory)
        try:
            with open(path, "rb"):
                readable.append(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            say(f"{path} is not read: {error.strerror}")
    try:
        return [_ledger(directory, held) for directory in readable]
    except LedgerError as error:
        if len(readable) == 1:
            raise
        raise LedgerError(
            f"{error}; --path.state reads one of them alone: {', '.join(readable)}"
        ) from None


def _ledger(directory: str, held: contextlib.ExitStack) -> "LedgerReader":
    from exporter.account.reading import LedgerReader, ledger_in

    path = ledger_in(directory)
    try:
        os.stat(path)
    except OSError as error:
        raise ConfigError(f"--path.state: {path} cannot be read: {error.strerror}") from None
    ledger = LedgerReader(directory, os.environ.get(NODE) or platform.node())
    held.callback(ledger.close)
    return ledger


def _named(found: "Sequence[Shared]") -> str:
    """Runs by their ids, the first of them."""
    ids = [each.record.run.shown_id for each in found]
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"run{'s' if len(ids) > 1 else ''} {', '.join(ids[:MOST_NAMED])}{more}"


def _say(text: str) -> None:
    print(formatting.printable(f"emissions-exporter: {text}"), file=sys.stderr)
