"""Commands from the agent socket and the signal handlers to the loop."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from exporter.model.record import RunRecord
from exporter.model.runs import RunInfo


class StartRun(NamedTuple):
    """Open a run for the process `pid`, as its caller describes it.

    `pid` and the uid of the key are the peer credentials of the socket, never from the body.
    """

    pid: int
    run: RunInfo
    """With an empty run id, the daemon generates one. The daemon sets the times and the lead."""


class EndRun(NamedTuple):
    """Close a run. Permitted to its own user and to root."""

    uid: int
    run_id: str
    job_id: str | None = None
    """None: any job."""
    pid: int = 0
    """The calling process; 0: unknown. Of several lead processes, only this one ends."""


class LogRun(NamedTuple):
    """Log results, unit counts and progress of a run. Same permissions as EndRun."""

    uid: int
    run_id: str
    job_id: str | None = None
    pid: int = 0
    values: tuple[tuple[str, float | str], ...] = ()
    """Results by name; each replaces the previous one of that name."""
    counts: tuple[tuple[str, float], ...] = ()
    """Amounts to add, by unit."""
    done: float | None = None
    """Amount of work done, out of `total`; None: no progress reported."""
    total: float = 0.0


class StopDaemon(NamedTuple):
    """Shut the daemon down cleanly."""


class ReleaseDriver(NamedTuple):
    """Release the drivers temporarily, so that a device can be reset."""


class ImportRuns(NamedTuple):
    """Import ended runs that another tool measured into the ledger."""

    records: tuple[RunRecord, ...]


class ImportResult(NamedTuple):
    """Numbers of imported runs: new, changed and already known."""

    new: int
    changed: int
    """Known already, and extended by this import."""
    known: int


Command: TypeAlias = StartRun | LogRun | EndRun | StopDaemon | ReleaseDriver | ImportRuns


class CommandRequest(NamedTuple):
    """A command and the callback for its result: a RunRecord, ImportResult or RequestRefused."""

    command: Command
    answer: Callable[[object], None]
