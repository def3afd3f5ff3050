"""The agent socket -> loop: what a caller asks for."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from exporter.model.record import RunRecord


class StartRun(NamedTuple):
    """Open a run. Who asks comes from the peer credentials of the socket, never from the body."""

    uid: int
    user: str
    pid: int
    run_id: str
    """Empty: the daemon makes one."""
    job_id: str = ""
    name: str = ""
    scope: str = "tree"
    labels: tuple[tuple[str, str], ...] = ()
    budget_grams: float | None = None
    nodes: int = 0


class EndRun(NamedTuple):
    """Close a run. Only its own user, or root, may."""

    uid: int
    run_id: str
    job_id: str | None = None
    """None: whichever job it belongs to."""
    pid: int = 0
    """The process that asks; 0: unknown. Where several lead the run, only its part ends."""


class LogRun(NamedTuple):
    """Add to what a run says of itself. Whoever may end it may do so."""

    uid: int
    run_id: str
    job_id: str | None = None
    pid: int = 0
    values: tuple[tuple[str, float | str], ...] = ()
    """Results, each instead of the one before with its name."""
    counts: tuple[tuple[str, float], ...] = ()
    """Amounts to be added, by unit."""
    done: float | None = None
    """How much of `total` is done; None: nothing is said of it."""
    total: float = 0.0


class StopDaemon(NamedTuple):
    """Stop the daemon in good order."""


class ReleaseDriver(NamedTuple):
    """Let go of the drivers for a while, so that a device can be reset."""


class ImportRuns(NamedTuple):
    """Put runs into the ledger that another tool measured, and that have ended."""

    records: tuple[RunRecord, ...]


class ImportResult(NamedTuple):
    """What became of them."""

    new: int
    changed: int
    """Known already, and longer now."""
    known: int


Command: TypeAlias = StartRun | LogRun | EndRun | StopDaemon | ReleaseDriver | ImportRuns


class CommandRequest(NamedTuple):
    """A command and where its answer goes: a RunRecord, a Taken, or a Refused."""

    command: Command
    answer: Callable[[object], None]
