"""Types of runs: key, description, progress and owner."""

from collections.abc import Collection
from typing import NamedTuple


class RunKey(NamedTuple):
    """Identity of a run. `uid` distinguishes equal ids of two users; -1 means none."""

    uid: int
    run_id: str
    job_id: str


NO_UID = -1
IMPORTED_UID = -3
"""uid of runs that another tool measured; unique to them, so that no other run continues one."""
DEPARTED_RUNS = RunKey(NO_UID, "", "")
"""Pseudo-run with the totals of all departed runs: included in the sums of a device, without
series of its own."""


class UnitCount(NamedTuple):
    """A unit of work that a run counts, such as tokens; the counter shows `amount - base`."""

    name: str
    amount: float
    base: float = 0.0


class RunMerge(NamedTuple):
    """A provisional run that was identified as another run."""

    old: RunKey
    new: RunKey
    is_counted: bool = True
    """Whether the counters of the new run include the usage of the old one; False: the counters of
    the old run, published beside those of the new one, already include it."""


class ProgressMark(NamedTuple):
    """Progress of a run at one time, with its totals on this node."""

    done: float
    at: float
    """Wall clock, seconds."""
    energy_uj: int
    carbon_ng: int


class Progress(NamedTuple):
    """Work done by a run, out of `total`, between two marks."""

    total: float
    first: ProgressMark
    last: ProgressMark
    between: tuple[ProgressMark, ...] = ()
    """Intermediate marks in order, from which the variance of the usage is estimated."""


class Owner(NamedTuple):
    """Unit by which runs are summed: a user, a namespace and the exported labels."""

    user: str
    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()


POD = "pod"
"""Origin of a run that is a pod of Kubernetes."""
SLURM = "slurm"
"""Origin of a run that is a job of Slurm."""
REPLAY = "replay"
"""Origin of a run of a recorded host."""
REGISTERED = "registered"
"""Origin of a run that a program registered."""


RUN_LABELS = ("run_id", "job_id")
"""Labels that identify a run in the series of one node; their values are `RunInfo.label_values`."""
FILLED_FIELDS = ("name", "user", "account", "namespace", "budget_grams", "nodes")
"""Fields of RunInfo that any source of a run may set; the first value that is set is kept."""


class RunInfo(NamedTuple):
    """Description of a run, as stored in journal and ledger.

    New fields come last, with a default: the journal stores them in this order. The ledger needs a
    column of the same name (`account/run_rows.py`).
    """

    key: RunKey
    name: str
    user: str
    origin: str
    """How it was found: registered, environment, machine, the name of a scheduler, pod, replay, the
    tool that measured it, or folded for the runs beyond `max_runs`."""
    started: float
    """Wall clock, seconds; the first start if the run was reopened."""
    ended: float | None = None
    end_reason: str = ""
    scope: str = "tree"
    """tree: the lead process and its descendants. cgroup: all processes in the cgroup of the lead
    process. machine: all processes."""
    lead_pid: int = 0
    lead_start: int = 0
    """Start time of the lead process in clock ticks since boot; detects a reused pid."""
    cgroup: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    budget_grams: float | None = None
    enclosing: RunKey | None = None
    """The run in which it was started, to which its processes return when it ends."""
    shown_id: str = ""
    """The label `run_id`: the id, or `id@uid` if a run of another user already has that id."""
    namespace: str = ""
    """Namespace of its pods; runs of two namespaces are never merged."""
    nodes: int = 0
    """Number of nodes reported by its launcher; 0: unknown."""
    units: tuple[UnitCount, ...] = ()
    """Units of work that it counts, by name."""
    logged: tuple[tuple[str, float | str], ...] = ()
    """The last value of each logged result, by name."""
    progress: Progress | None = None
    """None: no progress reported."""
    owner: Owner | None = None
    """Owner whose counter includes it; fixed while the run is published. None: not settled yet."""
    is_provisional: bool = False
    """Whether its identity is not known yet: a pod that the API server has not described. It may be
    merged into another run. Its owner is settled when it is identified, or ends."""

    def filled_from(self, other: "RunInfo") -> "RunInfo":
        """Return this description with the fields that only another one of the run has set."""
        fields, defaults = self._asdict(), self._field_defaults
        unset = [field for field in FILLED_FIELDS if fields[field] == defaults.get(field, "")]
        return RunInfo(**{**fields, **{field: getattr(other, field) for field in unset}})

    @property
    def label_values(self) -> tuple[str, str]:
        """Values of RUN_LABELS."""
        return self.shown_id, self.key.job_id

    @property
    def is_user_known(self) -> bool:
        """Whether it has no user, or a user with a known name; else the owner is not settled."""
        return bool(self.user) or self.key.uid < 0 or self.origin == REPLAY


def with_stored_run(run: RunInfo, past: RunInfo | None) -> RunInfo:
    """Combine a reopened run with its stored state `past`. Unit counters continue.

    Stored amounts become the base of the unit counters.
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
"""Owner of folded runs, and of all owners beyond the limit."""


def owner_of(run: RunInfo, exported_labels: Collection[str]) -> Owner:
    """Return the owner of a run."""
    if run.key.uid == NO_UID:
        return OTHER_OWNER
    labels = tuple([pair for pair in run.labels if pair[0] in exported_labels])
    return Owner(run.user, run.namespace, labels)
