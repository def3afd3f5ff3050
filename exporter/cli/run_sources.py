"""Access to the runs of this machine, through the daemon or directly from its ledgers."""

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from exporter.model.record import GroupBy, RunFilter
from exporter.model.record_document import record_to_json, totals_to_json
from exporter.report.inner import with_inner, with_other_tasks
from exporter.setting import variable

if TYPE_CHECKING:
    from exporter.account.reading import LedgerReader, Shared

T = TypeVar("T")
MOST_NAMED = 5
"""Maximum number of run ids in a message."""
NODE = variable("expose.node")


class RunSource(Protocol):
    """Source of runs; answers have the form of the agent API's documents."""

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        """Return the record of one run. Raises AgentRefusal if it does not exist."""

    def runs(
        self, since: float = 0.0, limit: int | None = None, /, **filters: str | None
    ) -> list[dict[str, Any]]:
        """Return records of runs, newest first. `filters` are fields of RunFilter.

        At most `limit` runs are returned. Runs that started before `since`, a wall-clock time in
        seconds, may be missing.
        """

    def inside(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return records of the runs that started directly inside the run with this record."""

    def aggregate_runs(self, by: str, since: float, **filters: str | None) -> dict[str, Any]:
        """Return sums of runs by a GroupBy, and records of single runs."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that select the source of runs: a daemon or a state directory."""
    add_socket_flag(parser)
    parser.add_argument(
        "--path.state",
        dest="state",
        default="",
        metavar="PATH",
        help="Read the ledger in this state directory instead of querying a daemon.",
    )


def find(
    source: RunSource, run: str, job_id: str | None, *, may_be_several: bool = False
) -> dict[str, Any]:
    """Return the record of the run with this id, or of the only run with this name.

    With `may_be_several`, a name may have several runs: the newest is returned, and the ids of the
    others are printed to stderr.
    """
    try:
        return source.run(run, job_id)
    except AgentRefusal as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        found = source.runs(job_id=job_id, name=run)
        named = [each for each in found if each.get("name") == run]  # old daemons do not filter
        if not named:
            raise
    newest, *others = named
    if others and not may_be_several:
        raise ConfigError(
            f"{len(named)} runs are named {run!r:.200}; give a run id instead: {_ids(named)}"
        )
    if others:
        _print_note(
            f"{len(named)} runs are named {run!r:.200}; showing the newest, {newest['run_id']}. "
            f"Ids of the others: {_ids(others)}"
        )
    return newest


def complete(source: RunSource, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run with the sums of its inner runs and of its tracker's tasks."""
    whole = with_other_tasks(record, lambda group: source.runs(group=group))
    return with_inner(whole, source.inside)


def _ids(runs: Sequence[dict[str, Any]]) -> str:
    """Return the ids of runs, at most `MOST_NAMED`."""
    more = ", ..." if len(runs) > MOST_NAMED else ""
    return ", ".join(str(each["run_id"]) for each in runs[:MOST_NAMED]) + more


@contextlib.contextmanager
def opened(options: argparse.Namespace) -> Iterator[RunSource]:
    """Yield the source of runs that the flags select."""
    with contextlib.ExitStack() as held:
        agent = AgentClient(options.socket)
        if options.state:
            yield _LedgerRuns([_ledger(options.state, held)])
        elif configured_socket(options.socket):
            yield agent
        else:
            yield _AgentOrLedgers(agent, held)


def is_complete(source: RunSource) -> bool:
    """Whether the last list of runs had all runs of this user on this machine."""
    return not (isinstance(source, _AgentOrLedgers) and source.has_left_out)


def state_directories() -> list[str]:
    """Return the default state directories of this user's daemons and of the system's daemon."""
    base = os.environ.get("XDG_STATE_HOME")
    found = [
        os.environ.get(private_daemon.STATE_DIRECTORY_VARIABLE, ""),
        os.path.join(base, "emissions-exporter") if base else "",
        private_daemon.home_state_directory(),
        SYSTEM_STATE_DIRECTORY,
    ]
    # "~" that was not expanded: the user has no home directory
    existing = (path for path in found if path and not path.startswith("~"))
    return list({os.path.realpath(path): path for path in existing}.values())


class _AgentOrLedgers:
    """Queries the daemon or, if none answers, the ledgers of this user."""

    def __init__(self, agent: AgentClient, held: contextlib.ExitStack) -> None:
        self._agent = agent
        self._held = held
        self._ledgers: _LedgerRuns | None = None
        self.has_left_out = False
        """Whether other ledgers have runs that match the last list and are not in it."""

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        try:
            return self._query(lambda source: source.run(run_id, job_id))
        except AgentRefusal as refusal:
            if self._ledgers is not None or refusal.status != HTTPStatus.NOT_FOUND:
                raise
            named = self._agent.runs(job_id=job_id, name=run_id)
            if any(each.get("name") == run_id for each in named):  # old daemons do not filter
                raise  # a name of the daemon's runs comes before an id in another ledger
            with contextlib.suppress(AgentRefusal, LedgerError):
                if ledgers := self._other_ledgers():
                    return _LedgerRuns(ledgers).run(run_id, job_id)
            raise

    def runs(
        self, since: float = 0.0, limit: int | None = None, /, **filters: str | None
    ) -> list[dict[str, Any]]:
        found = self._query(lambda source: source.runs(since, limit, **filters))
        self._note_other_ledgers(RunFilter.of(filters))
        return found

    def inside(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._query(lambda source: source.inside(run))

    def aggregate_runs(self, by: str, since: float, **filters: str | None) -> dict[str, Any]:
        found = self._query(lambda source: source.aggregate_runs(by, since, **filters))
        self._note_other_ledgers(RunFilter.of(filters))
        return found

    def _query(self, query: Callable[[RunSource], T]) -> T:
        if self._ledgers is None:
            try:
                return query(self._agent)
            except AgentUnreachable as error:
                directories = state_directories()
                if not (ledgers := _open_ledgers(directories, self._held, _print_note)):
                    places = ", ".join(directories)
                    raise AgentUnreachable(f"{error}; no ledger found in {places}") from None
                self._ledgers = _LedgerRuns(ledgers, "no daemon answered; ")
        return query(self._ledgers)

    def _other_ledgers(self) -> "list[LedgerReader]":
        """Return the ledgers of this user that do not belong to the daemon that answers.

        Empty if the daemon is an older one, which does not report the id of its ledger. This user
        may not be allowed to read the daemon's own ledger.
        """
        if not (ledger_id := self._agent.ledger_id()):
            return []
        ledgers = _open_ledgers(state_directories(), self._held, lambda _: None)
        return [each for each in ledgers if each.ledger_id() != ledger_id]

    def _note_other_ledgers(self, wanted: RunFilter) -> None:
        """Print how many matching runs of other ledgers the daemon's answer does not include."""
        self.has_left_out = False
        if self._ledgers is not None:
            return
        try:
            others = self._other_ledgers()
        except LedgerError as error:
            self.has_left_out = True
            _print_note(f"not included: {error}")
            return
        from exporter.account.reading import Ledgers  # SQLite, which other commands need not load

        for ledger in others:
            is_all = wanted == RunFilter()
            if count := len(ledger.run_keys() if is_all else Ledgers([ledger]).runs(wanted)):
                self.has_left_out = True
                _print_note(
                    f"not included: {count} run{'s' if count > 1 else ''} in {ledger.path}, which "
                    "is not the ledger of the daemon that answered; "
                    f"--path.state={os.path.dirname(ledger.path)} shows them"
                )


class _LedgerRuns:
    """Answers queries from ledgers, and prints to stderr which ledgers were read."""

    def __init__(self, ledgers: "Sequence[LedgerReader]", occasion: str = "") -> None:
        from exporter.account.reading import Ledgers  # SQLite, which other commands need not load

        self._ledgers = Ledgers(ledgers)
        self._occasion = occasion
        self._is_source_printed = False

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        wanted = RunFilter(run_id, job_id)
        found = self._ledgers.runs(wanted)
        if not found:
            of_job = "" if job_id is None else f" of job {job_id!r}"
            raise AgentRefusal(
                HTTPStatus.NOT_FOUND,
                f"{self._occasion}no run {run_id!r}{of_job} is in {self._places()}",
            )
        self._note_source()
        self._note_shared(wanted)
        best = max(found, key=lambda record: (record.run.ended is None, record.run.started))
        return {**record_to_json(best), "power_watts": None}

    def runs(
        self, since: float = 0.0, limit: int | None = None, /, **filters: str | None
    ) -> list[dict[str, Any]]:
        wanted = RunFilter.of(filters)
        found = self._ledgers.runs(wanted, since, limit)
        self._note_source()
        self._note_shared(wanted)
        return [record_to_json(record) for record in found]

    def inside(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        outer = self._ledgers.runs(RunFilter(run["run_id"], run["job_id"]))
        keys = [each.run.key for each in outer if each.run.key.uid == run["uid"]]
        found = (self._ledgers.runs(RunFilter(inside=key)) for key in keys)
        return [record_to_json(record) for records in found for record in records]

    def aggregate_runs(self, by: str, since: float, **filters: str | None) -> dict[str, Any]:
        wanted, models = RunFilter.of(filters), self._ledgers.models
        sums = self._ledgers.sums(GroupBy(by), since, wanted)
        runs = [each.record for each in self._ledgers.shared(wanted, since)]
        self._note_source()
        self._note_shared(wanted, since)
        return {
            "sums": [totals_to_json(each, models) for each in sums],
            "runs": [record_to_json(record) for record in runs],
        }

    def _places(self) -> str:
        return ", ".join(ledger.path for ledger in self._ledgers.ledgers)

    def _note_source(self) -> None:
        if self._is_source_printed:
            return
        self._is_source_printed = True
        _print_note(f"{self._occasion}reading runs from {self._places()}")
        for ledger in self._ledgers.ledgers:
            until = ledger.committed_until
            if until is not None:
                when = f"after {formatting.timestamp(until)} UTC" if until else "since its creation"
                _print_note(
                    f"{ledger.path} does not contain the energy used {when}: its daemon is running "
                    "or was killed. After a kill, the next daemon adds the energy from the journal "
                    "if the machine was not rebooted"
                )

    def _note_shared(self, wanted: RunFilter, since: float = 0.0) -> None:
        found = self._ledgers.shared(wanted, since)
        if added := [each for each in found if len(each.counted) > 1]:
            _print_note(f"the records of {_named(added)} in several ledgers are added up")
        if doubled := [each for each in found if each.excluded]:
            energy_uj = sum(record.energy_uj for each in doubled for record in each.excluded)
            _print_note(
                f"several ledgers have records of {_named(doubled)} for the same time: the record "
                "with the most energy is used, the others are ignored "
                f"({formatting.energy(energy_uj)})"
            )


def _open_ledgers(
    directories: Sequence[str], held: contextlib.ExitStack, note: Callable[[str], None]
) -> "list[LedgerReader]":
    """Open the ledgers in state directories; `note` reports each one that cannot be read."""
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
            note(f"{path} is skipped: cannot be read: {error.strerror}")
    try:
        return [_ledger(directory, held) for directory in readable]
    except LedgerError as error:
        if len(readable) == 1:
            raise
        raise LedgerError(
            f"{error}; to read a single ledger, give --path.state: {', '.join(readable)}"
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
    """Return "run" or "runs" with the ids, at most `MOST_NAMED`."""
    ids = [each.record.run.shown_id for each in found]
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"run{'s' if len(ids) > 1 else ''} {', '.join(ids[:MOST_NAMED])}{more}"


def _print_note(text: str) -> None:
    print(formatting.printable(f"emissions-exporter: {text}"), file=sys.stderr)
