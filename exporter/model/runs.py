"""What a run is."""

from collections.abc import Collection
from typing import NamedTuple


class RunKey(NamedTuple):
    """What a run is known by. `uid` keeps two users' equal ids apart; -1 means none."""

    uid: int
    run_id: str
    job_id: str


NO_UID = -1
IMPORTED_UID = -3
"""uid of runs that another tool measured: no other run has it, so none goes on with them."""
DEPARTED_RUNS = RunKey(NO_UID, "", "")
"""All runs that left the page: in the sums of a device, never a series of its own."""


class UnitCount(NamedTuple):
    """Something that a run counts of its own, such as tokens; a counter shows `amount - base`."""

    name: str
    amount: float
    base: float = 0.0


class RunMerge(NamedTuple):
    """A provisional run that turned out to be another one."""

    old: RunKey
    new: RunKey
    is_counted: bool = True
    """Whether the counters of the new run show what the old one used; False: those of the old one
    have shown it, beside those of the new one."""


class ProgressMark(NamedTuple):
    """How far a run had come, and what it had used on this node by then."""

    done: float
    at: float
    """Wall clock, seconds."""
    energy_uj: int
    carbon_ng: int


class Progress(NamedTuple):
    """How much of its work a run has done, of `total`, between two marks."""

    total: float
    first: ProgressMark
    last: ProgressMark
    between: tuple[ProgressMark, ...] = ()
    """Some marks on the way, in order: how evenly the work went."""


class Owner(NamedTuple):
    """Whose runs are added up: a user, a namespace, and the labels that the operator lets out."""

    user: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


POD = "pod"
"""The origin of a run that a pod of Kubernetes is."""
REPLAY = "replay"
"""The origin of a run of a recording, which says all that is known of it."""
REGISTERED = "registered"
"""The origin of a run that a program asked for."""


class RunInfo(NamedTuple):
    """A run as it goes to and from the ledger."""

    key: RunKey
    name: str
    user: str
    origin: str
    """How it is known: registered, environment, machine, the name of a scheduler, pod, replay, the
    tool that measured it, or folded, of all beyond the cap."""
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
    namespace: str = ""
    """Where its pods are; runs of two namespaces are never one."""
    nodes: int = 0
    """Nodes that it spans, as its launcher says; 0: unknown."""
    units: tuple[UnitCount, ...] = ()
    """What it counts, by name."""
    logged: tuple[tuple[str, float | str], ...] = ()
    """The last value of each result that it logged, by name."""
    progress: Progress | None = None
    """None: it says nothing of that."""
    owner: Owner | None = None
    """Whose counter it is added to as long as it is on the page, whatever becomes known of it
    meanwhile; None: that was not settled yet."""
    is_provisional: bool = False
    """Its identity is not known yet: a pod that the API server has not described. It may be merged
    into another run, and its owner is settled when it is identified, or ends."""

    @property
    def is_user_known(self) -> bool:
        """Whether it has no user, or one whose name is known; a counter of theirs may wait."""
        return bool(self.user) or self.key.uid < 0 or self.origin == REPLAY


def with_stored_run(run: RunInfo, past: RunInfo | None) -> RunInfo:
    """A run that came back, with what is known of it from before it left the page.

    Counters of its units go on from where they are.
    """
    if past is None:
        return run
    units = {unit.name: UnitCount(unit.name, unit.amount, unit.amount) for unit in past.units}
    for unit in run.units:
        before = units.get(unit.name, UnitCount(unit.name, 0.0)).amount
        units[unit.name] = UnitCount(unit.name, before + unit.amount, before + unit.base)
    return run._replace(
        started=min(run.started, past.started),
        units=tuple(units.values()),
        logged=tuple({**dict(past.logged), **dict(run.logged)}.items()),
        nodes=run.nodes or past.nodes,
    )


OTHER_OWNER = Owner("other")
"""All owners beyond the cap, and the runs that are folded together."""


def owner_of(run: RunInfo, exported_labels: Collection[str]) -> Owner:
    """Whose a run is."""
    if run.key.uid == NO_UID:
        return OTHER_OWNER
    labels = tuple([pair for pair in run.labels if pair[0] in exported_labels])
    return Owner(run.user, run.namespace, labels)
