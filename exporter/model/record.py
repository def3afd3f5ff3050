"""Run record, version 1: the document that receipts, reports and API responses render."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from exporter import units
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import Device, Method
from exporter.model.runs import RunInfo, RunKey, UnitCount
from exporter.model.workload import SplitMethod

VERSION = 1
UNSEEN_SECONDS = 60.0
"""A Slurm job that ran for this time and used no processor and no memory was not visible: it has no
cgroup and no process that the daemon could see, and its 0 J are no measurement."""
GROUP_LABEL = "group"
"""Label shared by the runs of one sweep."""
TASK_LABEL = "task"
"""Label with the name of a task, on the runs of tasks of a CodeCarbon tracker."""
FIRST_TASK_LABEL = "first_task"
"""Label with the run id of the first task, on later tasks of a tracker that was not started."""


class RecordPart(NamedTuple):
    """Usage of one device by a run, by measurement method and split."""

    device: Device
    method: Method
    split: SplitMethod
    amount: Amount


NO_MODELS: Mapping[Device, str] = MappingProxyType({})


class RunRecord(NamedTuple):
    """One run on one node with its usage and carbon intensities."""

    run: RunInfo
    parts: tuple[RecordPart, ...]
    factors: tuple[FactorUse, ...]
    at: float
    """Wall clock of this record, seconds."""
    node: str
    version: int = VERSION
    models: Mapping[Device, str] = NO_MODELS
    """Models of the devices that the node knows now."""
    inside: str = ""
    """Shown id of the enclosing run, if there is one."""

    @property
    def energy_uj(self) -> int:
        """Energy, summed over the parts."""
        return sum(part.amount.energy_uj for part in self.parts)

    @property
    def held_uj(self) -> int:
        """Idle energy of the devices that the run held; included in `energy_uj`."""
        return sum(part.amount.held_uj for part in self.parts)

    @property
    def carbon_ng(self) -> int:
        """Carbon, summed over the parts."""
        return sum(part.amount.carbon_ng for part in self.parts)

    @property
    def is_over_budget(self) -> bool | None:
        """Whether the run exceeded its budget.

        None without a budget, or if the known emissions are within the budget but incomplete:
        because of other nodes, or energy without a carbon intensity.
        """
        if self.run.budget_grams is None:
            return None
        if units.grams(self.carbon_ng) > self.run.budget_grams:
            return True
        has_all = all(use.factor is not None or not use.energy_uj for use in self.factors)
        return False if has_all and self.run.nodes <= 1 else None

    @property
    def duration_seconds(self) -> float:
        """Time from the first start to the end, or to the time of this record."""
        return max(0.0, (self.run.ended or self.at) - self.run.started)


class UsageInterval(NamedTuple):
    """Usage of one device by one attribution target in one minute or hour."""

    at: float
    """Start of the interval, wall clock."""
    device: Device
    run: RunKey | None
    """None: not attributed to any run."""
    amount: Amount


class RunFilter(NamedTuple):
    """Filter for runs; "" and None match any."""

    run_id: str = ""
    job_id: str | None = None
    user: str = ""
    group: str = ""
    namespace: str = ""
    account: str = ""
    name: str = ""
    inside: RunKey | None = None
    """Matches runs started directly inside this run."""

    @classmethod
    def of(cls, wanted: Mapping[str, str | None]) -> "RunFilter":
        """Return the filter with these texts, by field; None matches any."""

        def text(name: str) -> str:
            return wanted.get(name) or ""

        return cls(
            text("run_id"),
            wanted.get("job_id"),
            text("user"),
            text("group"),
            text("namespace"),
            text("account"),
            text("name"),
        )

    def has(self, run: RunInfo) -> bool:
        """Whether the filter matches a run."""
        return (
            self.run_id in ("", run.shown_id)
            and self.job_id in (None, run.key.job_id)
            and self.user in ("", run.user)
            and self.group in ("", dict(run.labels).get(GROUP_LABEL, ""))
            and self.namespace in ("", run.namespace)
            and self.account in ("", run.account)
            and self.name in ("", run.name)
            and self.inside in (None, run.enclosing)
        )


ANY_RUN = RunFilter()


class RunCursor(NamedTuple):
    """Position of a run in the list of all runs, sorted by start time, latest first."""

    started: float
    key: RunKey

    @classmethod
    def of(cls, run: RunInfo) -> "RunCursor":
        """Return the position of a run."""
        return cls(run.started, run.key)

    @property
    def order(self) -> tuple[float, str, str, int]:
        """Sort key of the list; unique per run."""
        return -self.started, self.key.run_id, self.key.job_id, self.key.uid

    def precedes(self, run: RunInfo) -> bool:
        """Whether a run comes after this position."""
        return self.order < RunCursor.of(run).order


class GroupBy(StrEnum):
    """Field by which runs are aggregated."""

    JOB = "job"
    GROUP = "group"
    USER = "user"
    NAMESPACE = "namespace"
    ACCOUNT = "account"


class RunTotals(NamedTuple):
    """Totals of all runs of one job, group, user, namespace or account."""

    name: str
    """Name of the job, group, user, namespace or account; "" for runs without one."""
    runs: int
    users: tuple[str, ...]
    nodes: tuple[str, ...]
    started: float
    """The earliest start."""
    ended: float | None
    """The latest end; None while one of the runs is open."""
    at: float
    parts: tuple[RecordPart, ...]
    factors: tuple[FactorUse, ...]
    units: tuple[UnitCount, ...]
    run_seconds: float = 0.0
    """Sum of the durations, without runs inside other runs with this name."""
    unseen_runs: int = 0
    """Slurm jobs without a visible cgroup or process, see UNSEEN_SECONDS."""


class Form(NamedTuple):
    """An output format of a record."""

    media_type: str
    suffix: str
    """File name extension, without a dot."""
    title: str
    """Human-readable name of the format."""
    write: Callable[[Mapping[str, Any]], str]
    """Renders a record, as returned by `record_to_json`, without a trailing line end."""


Document = Mapping[str, Any]
"""A record, as returned by `record_to_json`."""
AddInner = Callable[[Document, Callable[[Document], Iterable[Document]]], Document]
"""Adds the sums of inner runs to a record; the second argument lists the runs inside a run."""


class RunArchive(Protocol):
    """Read access to all runs in the ledger, published or not; thread-safe."""

    def ledger_id(self) -> str:
        """Return the id that was generated with the ledger. Raises LedgerError."""

    def runs(
        self, limit: int, wanted: RunFilter = ANY_RUN, after: RunCursor | None = None
    ) -> Sequence[RunRecord]:
        """Return up to `limit` runs, latest start first, beginning after the cursor `after`.

        Raises LedgerError.
        """

    def sums(
        self, by: GroupBy, since: float, wanted: RunFilter, leaving_out: Collection[RunKey]
    ) -> Sequence[RunTotals]:
        """Return totals of all runs started at `since` or later, except `leaving_out`.

        Raises LedgerError.
        """

    def usage(
        self, since: float, until: float, run: RunKey | None = None, *, by_hour: bool = False
    ) -> Sequence[UsageInterval]:
        """Return usage by minute or hour of all attribution targets, or of one run.

        Raises LedgerError.
        """
