"""RunRecord, version 1: the one value that every receipt, report and API answer renders."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from exporter import units
from exporter.model.forecast import Forecast, ForecastOutcome, forecast
from exporter.model.ledger import Amount, FactorUse, sum_amounts
from exporter.model.readings import Device, Method
from exporter.model.runs import RunInfo, RunKey, UnitCount
from exporter.model.workload import SplitMethod

VERSION = 1
GROUP_LABEL = "group"
"""The label that runs of one sweep share."""


class RecordPart(NamedTuple):
    """What a run used of one device, got by one method and split in one way."""

    device: Device
    method: Method
    split: SplitMethod
    amount: Amount


NO_MODELS: Mapping[Device, str] = MappingProxyType({})


class RunRecord(NamedTuple):
    """Everything known of one run on one node."""

    run: RunInfo
    parts: tuple[RecordPart, ...]
    factors: tuple[FactorUse, ...]
    at: float
    """Wall clock of this record, seconds."""
    node: str
    version: int = VERSION
    models: Mapping[Device, str] = NO_MODELS
    """What the devices are, as far as the node knows them now."""

    @property
    def energy_uj(self) -> int:
        """Sum over the parts."""
        return sum(part.amount.energy_uj for part in self.parts)

    @property
    def held_uj(self) -> int:
        """Idle energy of what the run held; inside `energy_uj`."""
        return sum(part.amount.held_uj for part in self.parts)

    @property
    def carbon_ng(self) -> int:
        """Sum over the parts."""
        return sum(part.amount.carbon_ng for part in self.parts)

    @property
    def is_over_budget(self) -> bool | None:
        """Whether it emitted more than its budget.

        None without a budget; also where what is known is within it and a part is missing: that of
        other nodes, or grams of energy without an intensity.
        """
        if self.run.budget_grams is None:
            return None
        if units.grams(self.carbon_ng) > self.run.budget_grams:
            return True
        has_all = all(use.factor is not None or not use.energy_uj for use in self.factors)
        return False if has_all and self.run.nodes <= 1 else None

    @property
    def duration_seconds(self) -> float:
        """From the first start to the end, or to the moment of this record."""
        return max(0.0, (self.run.ended or self.at) - self.run.started)


class UsageInterval(NamedTuple):
    """What one party used of one device in one minute, or in one hour."""

    at: float
    """When it began, wall clock."""
    device: Device
    run: RunKey | None
    """None: it was charged to no run."""
    amount: Amount


class RunFilter(NamedTuple):
    """Which runs are asked for; "" and None: any."""

    run_id: str = ""
    job_id: str | None = None
    user: str = ""
    group: str = ""
    namespace: str = ""
    inside: str = ""
    """Those that began directly inside the run with this id."""

    def has(self, run: RunInfo) -> bool:
        """Whether a run is among them."""
        return (
            self.run_id in ("", run.shown_id)
            and self.job_id in (None, run.key.job_id)
            and self.user in ("", run.user)
            and self.group in ("", dict(run.labels).get(GROUP_LABEL, ""))
            and self.namespace in ("", run.namespace)
            and self.inside in ("", run.enclosing.run_id if run.enclosing else "")
        )


ANY_RUN = RunFilter()


class RunCursor(NamedTuple):
    """The place of a run in the list of all runs, which begins with the latest start."""

    started: float
    key: RunKey

    @classmethod
    def of(cls, run: RunInfo) -> "RunCursor":
        """The place of a run."""
        return cls(run.started, run.key)

    @property
    def order(self) -> tuple[float, str, str, int]:
        """What the list is sorted by; no two runs have the same."""
        return -self.started, self.key.run_id, self.key.job_id, self.key.uid

    def precedes(self, run: RunInfo) -> bool:
        """Whether a run comes after this place."""
        return self.order < RunCursor.of(run).order


class GroupBy(StrEnum):
    """What runs may be added up by."""

    JOB = "job"
    GROUP = "group"
    USER = "user"
    NAMESPACE = "namespace"
    ACCOUNT = "account"


class RunTotals(NamedTuple):
    """What the ledger has of all runs of one job, group, user, namespace or account."""

    name: str
    """Of the job, group, user, namespace or account; "" for the runs that have none."""
    runs: int
    users: tuple[str, ...]
    nodes: tuple[str, ...]
    started: float
    """The earliest start."""
    ended: float | None
    """The latest end; None as long as one of them is open."""
    at: float
    parts: tuple[RecordPart, ...]
    factors: tuple[FactorUse, ...]
    units: tuple[UnitCount, ...]


class Form(NamedTuple):
    """A way to write a record down."""

    media_type: str
    suffix: str
    """Of a file's name, without a dot."""
    title: str
    """What a person reads who chooses."""
    write: Callable[[Mapping[str, Any]], str]
    """The document, without a line end after it, of a record as `to_json` gives it."""


class RunArchive(Protocol):
    """Every run that the ledger knows, on the page or not; may be asked from any thread."""

    def ledger_id(self) -> str:
        """The id that was made with the ledger. Raises LedgerError."""

    def runs(
        self, limit: int, wanted: RunFilter = ANY_RUN, after: RunCursor | None = None
    ) -> Sequence[RunRecord]:
        """The `limit` runs that began last, newest first, or those that come after a place.

        Raises LedgerError.
        """

    def sums(
        self, by: GroupBy, since: float, wanted: RunFilter, leaving_out: Collection[RunKey]
    ) -> Sequence[RunTotals]:
        """The sums of all runs that began at `since` or later. Raises LedgerError."""

    def usage(
        self, since: float, until: float, run: RunKey | None = None, *, by_hour: bool = False
    ) -> Sequence[UsageInterval]:
        """Usage of all parties, or of one run, by the minute or hour. Raises LedgerError."""


def record_to_json(record: RunRecord) -> dict[str, object]:
    """The record as JSON-ready values; integers stay exact."""
    run = record.run
    return {
        "version": record.version,
        "run_id": run.shown_id,
        "job_id": run.key.job_id,
        "uid": run.key.uid,
        "name": run.name,
        "user": run.user,
        "namespace": run.namespace,
        "account": run.account,
        "origin": run.origin,
        "scope": run.scope,
        "inside": run.enclosing.run_id if run.enclosing else None,
        "labels": dict(run.labels),
        "node": record.node,
        "started": run.started,
        "ended": run.ended,
        "end_reason": run.end_reason,
        "at": record.at,
        "duration_seconds": record.duration_seconds,
        "budget_grams": run.budget_grams,
        "budget_exceeded": record.is_over_budget,
        "nodes": run.nodes or None,
        "units": {unit.name: unit.amount for unit in run.units},
        "logged": dict(run.logged),
        "progress": _progress_to_json(run),
        "forecast": _forecast_to_json(run),
        "energy_uj": record.energy_uj,
        "held_uj": record.held_uj,
        "carbon_ng": record.carbon_ng,
        "energy_joules": units.joules(record.energy_uj),
        "carbon_grams": units.grams(record.carbon_ng),
        "parts": _parts_to_json(record.parts, record.models),
        "intensity": [_factor_use_to_json(use) for use in record.factors],
    }


def totals_to_json(found: RunTotals, models: Mapping[Device, str]) -> dict[str, object]:
    """The sum as JSON-ready values, as far as it has them under the names of a record."""
    total = sum_amounts(part.amount for part in found.parts)
    return {
        "version": VERSION,
        "name": found.name,
        "runs": found.runs,
        "users": list(found.users),
        "nodes": list(found.nodes),
        "started": found.started,
        "ended": found.ended,
        "at": found.at,
        "units": {unit.name: unit.amount for unit in found.units},
        "energy_uj": total.energy_uj,
        "held_uj": total.held_uj,
        "carbon_ng": total.carbon_ng,
        "parts": _parts_to_json(found.parts, models),
        "intensity": [_factor_use_to_json(use) for use in found.factors],
    }


def _parts_to_json(
    parts: Iterable[RecordPart], models: Mapping[Device, str]
) -> list[dict[str, object]]:
    return [
        {
            "device": part.device.kind,
            "id": part.device.id,
            "model": models.get(part.device, ""),
            "method": part.method,
            "split": part.split,
            "energy_uj": part.amount.energy_uj,
            "held_uj": part.amount.held_uj,
            "carbon_ng": part.amount.carbon_ng,
        }
        for part in parts
    ]


def _progress_to_json(run: RunInfo) -> dict[str, float] | None:
    """How far the run said to have come, and when."""
    if run.progress is None:
        return None
    last = run.progress.last
    return {"done": last.done, "total": run.progress.total, "at": last.at}


def _forecast_to_json(run: RunInfo) -> dict[str, object] | None:
    """What an open run will have used on this node when its work is done, and its range."""
    ahead = forecast(run.progress) if run.ended is None else None
    if ahead is None:
        return None
    return {
        **_outcome_to_json(ahead),
        "low": _outcome_to_json(ahead.low) if ahead.low else None,
        "high": _outcome_to_json(ahead.high) if ahead.high else None,
    }


def _outcome_to_json(outcome: ForecastOutcome | Forecast) -> dict[str, float]:
    return {
        "energy_joules": units.joules(outcome.energy_uj),
        "carbon_grams": units.grams(outcome.carbon_ng),
        "end": outcome.ends,
    }


def _factor_use_to_json(use: FactorUse) -> dict[str, object]:
    """One intensity that the run was converted with, and for how much of it."""
    factor = use.factor
    amounts: dict[str, object] = {"energy_uj": use.energy_uj, "carbon_ng": use.carbon_ng}
    if factor is None:
        return {"zone": None, **amounts}
    return {
        "zone": factor.zone,
        "source": factor.source,
        "grams_per_kwh": factor.grams_per_kwh,
        "pue": factor.pue,
        "signal": factor.signal,
        "basis": factor.basis,
        "accounting": factor.accounting,
        "estimated": factor.estimated,
        "fallback_step": factor.step,
        **amounts,
    }
