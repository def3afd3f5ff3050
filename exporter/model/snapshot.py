"""account -> expose: the state of everything at one tick. Built by the loop, never mutated."""

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
    """One device now."""

    info: DeviceInfo
    up: bool
    why: str
    """Why there is no reading, if there is none."""
    age_seconds: float
    """Since the last good reading."""
    power_watts: float | None
    """Mean over the last half interval or more; None: unknown, which is not zero."""
    events: Mapping[CounterEvent, int]
    activity: GpuActivity | None = None
    """The last look at who is on it; None: nobody looked, or not lately."""
    is_counted: bool = True
    """Whether its energy is known, if only from where on; else it has none to show, not even 0."""

    @property
    def utilization(self) -> float | None:
        """Part of the time in which anything ran on it, 0 to 1; None: not known."""
        return None if self.activity is None else self.activity.utilization


class AccountSnapshot(NamedTuple):
    """One line of the books now."""

    device: Device
    target: AttributionTarget
    method: Method
    split: SplitMethod
    balance: Balance
    power_watts: float | None


class IntensityState(NamedTuple):
    """The intensity in force now."""

    factor: Factor | None
    """None: the chain is exhausted, grams stand still."""
    age_seconds: float | None
    why: str
    """In a sentence for a person: where the number comes from, or why there is none."""
    recent: tuple[IntensityValue, ...] = ()
    """What was known of the last hours; empty for a source without times."""
    forecast: tuple[IntensityValue, ...] = ()
    """From the source in force; empty where it has none."""
    second: "IntensityState | None" = None
    """Another kind of intensity, that no grams are counted with; None: not wanted."""
    feeds: tuple[FeedState, ...] = ()


class DaemonHealth(NamedTuple):
    """How the daemon itself fares."""

    loop_seconds: float = 0.0
    loop_overruns: int = 0
    ledger_errors: int = 0
    ledger_why: str = ""
    commit_age_seconds: float = 0.0
    series_dropped: int = 0
    imbalance_uj: int = 0
    exporter_energy_uj: int = 0
    sick: str = ""
    """Why a source can never work again in this process, with the remedy."""


NO_RUN_OWNERS: Mapping[RunKey, Owner] = MappingProxyType({})
NO_MEMBERS: Mapping[RunKey, tuple[tuple[str, str], ...]] = MappingProxyType({})


class Snapshot(NamedTuple):
    """All that may be shown of one tick; data and health side by side."""

    tick: int
    at_ns: int
    wall: float
    node: str
    interval_seconds: float
    devices: tuple[DeviceState, ...]
    rows: tuple[AccountSnapshot, ...]
    runs: tuple[RunInfo, ...]
    """Open ones first, then ended ones that are still shown."""
    factor_uses: Mapping[RunKey, tuple[FactorUse, ...]]
    grid: IntensityState
    collectors: tuple[CollectorState, ...]
    health: DaemonHealth
    notes: tuple[str, ...] = ()
    """What a person should know: missing sources with their remedy, a restart, a repair."""
    driver_calls: Mapping[str, DriverCallStats] = NO_DRIVER_CALLS
    owners: tuple[tuple[Owner, int, int], ...] = ()
    """What counters showed of runs that have left: microjoules and nanograms by owner."""
    members: Mapping[RunKey, tuple[tuple[str, str], ...]] = NO_MEMBERS
    """Pods and containers of the runs that have some."""
    owner_of: Mapping[RunKey, Owner] = NO_RUN_OWNERS
    """Whose the runs are that have lines among `rows`."""
    leaving: tuple[RunInfo, ...] = ()
    """Runs that are off the page, and whose lines are still among `rows`."""


def record_of(snapshot: Snapshot, run: RunInfo) -> RunRecord:
    """The record of a run that the snapshot shows."""
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
    )


def device_models(snapshot: Snapshot) -> dict[Device, str]:
    """What the node's devices are."""
    return {state.info.device: state.info.model for state in snapshot.devices}


def run_power_watts(snapshot: Snapshot, run: RunInfo) -> float | None:
    """Power of a run over all devices; None where no device of it has one."""
    powers = [
        row.power_watts
        for row in snapshot.rows
        if row.target == run.key and row.power_watts is not None
    ]
    return sum(powers) if powers else None
