"""Snapshot of the whole state after one tick: immutable, built by the loop, read by expose."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter.model.intensity import Factor, FeedState, IntensityValue
from exporter.model.ledger import Balance, FactorUse
from exporter.model.readings import (
    NO_DRIVER_CALLS,
    CounterEvent,
    Device,
    DeviceInfo,
    DriverCallStats,
    GpuActivity,
    Method,
)
from exporter.model.record import RecordPart, RunRecord
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.workload import AttributionTarget, CollectorState, SplitMethod


class DeviceState(NamedTuple):
    """State of one device."""

    info: DeviceInfo
    up: bool
    why: str
    """Why there is no reading; "": there is one."""
    age_seconds: float
    """Time since the last accepted reading."""
    power_watts: float | None
    """Mean over at least half a sampling interval; None: unknown, which is not zero."""
    events: Mapping[CounterEvent, int]
    activity: GpuActivity | None = None
    """Its last activity; None: not polled, or outdated."""
    is_counted: bool = True
    """Whether counting has begun; if not, no energy is exported, not even 0."""

    @property
    def utilization(self) -> float | None:
        """Part of the time in which anything ran on it, 0 to 1; None: not known."""
        return None if self.activity is None else self.activity.utilization


class NodeState(NamedTuple):
    """Energy of the whole node as its meter measures it."""

    source: str
    """Name of the collector that reads the meter."""
    energy_uj: Mapping[Method, int]
    """Since the exporter started."""


class AccountSnapshot(NamedTuple):
    """Balance and power of one account."""

    device: Device
    target: AttributionTarget
    method: Method
    split: SplitMethod
    balance: Balance
    power_watts: float | None


class IntensityState(NamedTuple):
    """The carbon intensity in force."""

    factor: Factor | None
    """None: no source of the chain has an intensity, so the carbon counters do not increase."""
    age_seconds: float | None
    why: str
    """Human-readable: where the value comes from, or why there is none."""
    recent: tuple[IntensityValue, ...] = ()
    """Values of the last hours; empty for a source without times."""
    forecast: tuple[IntensityValue, ...] = ()
    """Forecast of the source in force; empty if it has none."""
    second: "IntensityState | None" = None
    """Intensity of another kind, not used for conversion; None: not configured."""
    feeds: tuple[FeedState, ...] = ()


class DaemonHealth(NamedTuple):
    """Health of the daemon."""

    loop_seconds: float = 0.0
    loop_overruns: int = 0
    ledger_errors: int = 0
    ledger_why: str = ""
    commit_age_seconds: float = 0.0
    series_dropped: int = 0
    imbalance_uj: int = 0
    exporter_energy_uj: int = 0
    sick: str = ""
    """Why a source cannot recover within this process, with the remedy."""


NO_RUN_OWNERS: Mapping[RunKey, Owner] = MappingProxyType({})
NO_MEMBERS: Mapping[RunKey, tuple[tuple[str, str], ...]] = MappingProxyType({})


class Snapshot(NamedTuple):
    """Published state of one tick: data and health."""

    tick: int
    at_ns: int
    wall: float
    node: str
    interval_seconds: float
    devices: tuple[DeviceState, ...]
    rows: tuple[AccountSnapshot, ...]
    runs: tuple[RunInfo, ...]
    """Open runs first, then ended runs that are still published."""
    factor_uses: Mapping[RunKey, tuple[FactorUse, ...]]
    grid: IntensityState
    collectors: tuple[CollectorState, ...]
    health: DaemonHealth
    notes: tuple[str, ...] = ()
    """Notes for the operator: missing sources with their remedy, a recovery."""
    driver_calls: Mapping[str, DriverCallStats] = NO_DRIVER_CALLS
    owners: tuple[tuple[Owner, int, int], ...] = ()
    """Counted microjoules and nanograms of departed runs, by owner."""
    members: Mapping[RunKey, tuple[tuple[str, str], ...]] = NO_MEMBERS
    """Pods and containers of the runs that have some."""
    owner_of: Mapping[RunKey, Owner] = NO_RUN_OWNERS
    """Owners of the runs with accounts in `rows`."""
    node_state: NodeState | None = None
    """None: there is no meter of the node, or it has not been read twice yet."""
    leaving: tuple[RunInfo, ...] = ()
    """Runs that are no longer published but still have accounts in `rows`."""


def record_of(snapshot: Snapshot, run: RunInfo) -> RunRecord:
    """Return the record of a run in the snapshot."""
    return RunRecord(
        run=run,
        parts=tuple(
            RecordPart(row.device, row.method, row.split, row.balance.total)
            for row in snapshot.rows
            if row.target == run.key
        ),
        factors=snapshot.factor_uses.get(run.key, ()),
        at=snapshot.wall,
        node=snapshot.node,
        models=device_models(snapshot),
        inside=_enclosing_id(snapshot, run),
    )


def _enclosing_id(snapshot: Snapshot, run: RunInfo) -> str:
    """Return the shown id of the enclosing run, or its run id if it has left the snapshot."""
    if run.enclosing is None:
        return ""
    shown = (*snapshot.runs, *snapshot.leaving)
    ids = (other.shown_id for other in shown if other.key == run.enclosing)
    return next(ids, run.enclosing.run_id)


def device_models(snapshot: Snapshot) -> dict[Device, str]:
    """Return the models of the devices of the node."""
    return {state.info.device: state.info.model for state in snapshot.devices}


def run_power_watts(snapshot: Snapshot, run: RunInfo) -> float | None:
    """Return the power of a run over all devices; None if no device has a power."""
    powers = [
        row.power_watts
        for row in snapshot.rows
        if row.target == run.key and row.power_watts is not None
    ]
    return sum(powers) if powers else None
