"""What a run is."""

from typing import NamedTuple


class RunKey(NamedTuple):
    """What a run is known by. `uid` keeps two users' equal ids apart; -1 means none."""

    uid: int
    run_id: str
    job_id: str


DEPARTED = RunKey(-1, "", "")
"""All runs that left the page: in the sums of a device, never a series of its own."""


class RunInfo(NamedTuple):
    """A run as it goes to and from the ledger."""

    key: RunKey
    name: str
    user: str
    origin: str
    """registered, environment, machine, replay: how we know of it."""
    started: float
    """Wall clock, seconds; the first start if it was reopened."""
    ended: float | None = None
    end_reason: str = ""
    scope: str = "tree"
    """tree: the lead process and its descendants. cgroup: all in its cgroup. machine: all."""
    lead_pid: int = 0
    lead_start: int = 0
    """Start time of the lead process in clock ticks since boot; tells a reused pid apart."""
    cgroup: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    budget_grams: float | None = None
    enclosing: RunKey | None = None
    """The run that it began in, which its processes fall back to when it ends."""
    shown_id: str = ""
    """The label `run_id`: the id, or `id@uid` where another user's run took it first."""
