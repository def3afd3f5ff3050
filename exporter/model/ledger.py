"""account: postings, lines, and what one commit makes durable."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter.model.intensity import Factor
from exporter.model.readings import CounterState, Device, DeviceInfo, Interval, Method
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.workload import AttributionTarget, SplitMethod


class Posting(NamedTuple):
    """One posting; the only currency that account takes."""

    minute: int
    """floor(wall clock / 60), UTC."""
    device: Device
    target: AttributionTarget
    method: Method
    split: SplitMethod
    factor: Factor | None
    energy_uj: int
    held_uj: int
    carbon_ng: int


class IntervalPostings(NamedTuple):
    """One interval and the entries that it became; their energies are equal, or it is refused."""

    interval: Interval
    entries: tuple[Posting, ...]


class AccountKey(NamedTuple):
    """The key of a running total."""

    device: Device
    target: AttributionTarget
    method: Method
    split: SplitMethod


class Amount(NamedTuple):
    """What stands on a line. Integers, so that sums are exact; never falls."""

    energy_uj: int
    held_uj: int
    carbon_ng: int

    def plus(self, other: "Amount") -> "Amount":
        """The sum, part by part."""
        return Amount(
            self.energy_uj + other.energy_uj,
            self.held_uj + other.held_uj,
            self.carbon_ng + other.carbon_ng,
        )

    def minus(self, other: "Amount") -> "Amount":
        """The difference, part by part."""
        return Amount(
            self.energy_uj - other.energy_uj,
            self.held_uj - other.held_uj,
            self.carbon_ng - other.carbon_ng,
        )


ZERO_AMOUNT = Amount(0, 0, 0)


def sum_amounts(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    total = ZERO_AMOUNT
    for amount in amounts:
        total = total.plus(amount)
    return total


class Balance(NamedTuple):
    """A line's total since the ledger began, and the part that its counter does not show.

    A counter shows `total - base`. The base is 0 until a restart had to begin at zero.
    """

    total: Amount
    base: Amount = ZERO_AMOUNT

    @property
    def counted(self) -> Amount:
        """What the counter shows."""
        return self.total.minus(self.base)

    def plus(self, other: "Balance") -> "Balance":
        """The sum, part by part."""
        return Balance(self.total.plus(other.total), self.base.plus(other.base))

    def minus(self, other: "Balance") -> "Balance":
        """The difference, part by part."""
        return Balance(self.total.minus(other.total), self.base.minus(other.base))


class UsageKey(NamedTuple):
    """The key of a row of the ledger's time series."""

    minute: int
    device: Device
    target: AttributionTarget
    factor: Factor | None
    method: Method
    split: SplitMethod


class RunCpuTime(NamedTuple):
    """CPU time that a run's live processes have used since they started, as last seen.

    After a restart the difference to a new look proves what the run used meanwhile.
    """

    run: RunKey
    cpu_us: int


class HostCpuTime(NamedTuple):
    """The machine's own CPU clocks since boot, as last seen."""

    busy_us: int
    total_us: int


NO_OWNER_TOTALS: Mapping[Owner, tuple[int, int]] = MappingProxyType({})


class Batch(NamedTuple):
    """What one commit makes durable, all or nothing."""

    seq: int
    """The journal write that it equals; a journal at or after it is newer."""
    at_ns: int
    wall: float
    counter_states: tuple[CounterState, ...]
    lines: Mapping[AccountKey, Balance]
    """Absolute values of the lines that changed."""
    usage: Mapping[UsageKey, Amount]
    """Sums since the batch before."""
    runs: tuple[RunInfo, ...]
    """Those that began, changed or ended."""
    floors: Mapping[Device, float]
    infos: tuple[DeviceInfo, ...] = ()
    """Devices not yet written down, or changed."""
    clean: bool = False
    """The last batch of an orderly stop."""
    departed: tuple[RunKey, ...] = ()
    """Runs whose totals went over into those of `DEPARTED`."""
    owners: Mapping[Owner, tuple[int, int]] = NO_OWNER_TOTALS
    """Absolute values of those that changed: what counters showed of departed runs, uJ and ng."""
    backfill_id: int = 0
    """The last fill that the values have."""
    journaled_backfill_id: int = 0
    """The last fill that the journal has as well; the ledger may forget it."""
    intensity: str = ""
    """What the sources of intensity are to know after a restart; empty: as before."""
    merged: tuple[tuple[RunKey, RunKey], ...] = ()
    """Runs that were merged into others, old and new key, in order; done before all else."""


class FactorUse(NamedTuple):
    """How much of a run's energy was converted with one factor (None: with none yet)."""

    factor: Factor | None
    energy_uj: int
    carbon_ng: int


class LateCarbon(NamedTuple):
    """Grams of one line that came after its energy."""

    backfill_id: int
    """Which fill brought them; a later one has a greater number."""
    line: AccountKey
    """Of who used the energy, whether or not it has left since."""
    carbon_ng: int
    owner: Owner | None = None
    """Whose counter has them once the run has left."""


class Backfill(NamedTuple):
    """What the ledger converted when a factor for energy without grams had come."""

    id: int
    late_carbon: tuple[LateCarbon, ...]
    uses: Mapping[RunKey, tuple[FactorUse, ...]] = {}
    """What changes in the factors of each run."""


class StoredRun(NamedTuple):
    """What the ledger knows of a run that begins: that it is back, or nothing."""

    key: RunKey
    info: RunInfo | None = None
    """None: the ledger has never seen the run."""
    lines: Mapping[AccountKey, Balance] = {}
    factor_uses: tuple[FactorUse, ...] = ()


class RestoredState(NamedTuple):
    """What the daemon knew before it stopped; handed once to every stage's constructor."""

    seq: int = 0
    counter_states: tuple[CounterState, ...] = ()
    lines: Mapping[AccountKey, Balance] = {}
    runs: tuple[RunInfo, ...] = ()
    """Open ones, and ended ones that the page still shows."""
    factor_uses: Mapping[RunKey, tuple[FactorUse, ...]] = {}
    floors: Mapping[Device, float] = {}
    run_cpu: tuple[RunCpuTime, ...] = ()
    machine_cpu: HostCpuTime | None = None
    notes: tuple[str, ...] = ()
    """What a person should know about how it was found; logged once."""
    wall: float = 0.0
    """When the journal or the ledger was last written; 0 where there was none."""
    owners: Mapping[Owner, tuple[int, int]] = NO_OWNER_TOTALS
    """What counters showed of departed runs, microjoules and nanograms."""
    backfill_id: int = 0
    """The last fill that the lines have."""
    intensity: str = ""
    """What the sources of intensity knew."""
    merged: tuple[tuple[RunKey, RunKey], ...] = ()
    """Merges of runs, old and new key, that are in the first batch after the start."""
