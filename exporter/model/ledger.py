"""Types of stage account: postings, account balances, batches and restored state."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter.model.intensity import Factor
from exporter.model.readings import CounterState, Device, DeviceInfo, Interval, Method
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.workload import AttributionTarget, SplitMethod


class Posting(NamedTuple):
    """Energy and carbon booked on one account in one minute; the only input of stage account."""

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
    """An interval and its postings, whose energies sum to that of the interval."""

    interval: Interval
    entries: tuple[Posting, ...]


class AccountKey(NamedTuple):
    """Key of an account: device, attribution target, method and split."""

    device: Device
    target: AttributionTarget
    method: Method
    split: SplitMethod


class Amount(NamedTuple):
    """Energy, held energy and carbon of an account. Integers, so that sums are exact."""

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
    """Return the sum of amounts."""
    total = ZERO_AMOUNT
    for amount in amounts:
        total = total.plus(amount)
    return total


class Balance(NamedTuple):
    """Total of an account since the ledger began, and the part that its counter does not show.

    The published counter is `total - base`. The base is 0 unless a restart had to reset counters.
    """

    total: Amount
    base: Amount = ZERO_AMOUNT

    @property
    def counted(self) -> Amount:
        """Value of the published counter."""
        return self.total.minus(self.base)

    def plus(self, other: "Balance") -> "Balance":
        """The sum, part by part."""
        return Balance(self.total.plus(other.total), self.base.plus(other.base))

    def minus(self, other: "Balance") -> "Balance":
        """The difference, part by part."""
        return Balance(self.total.minus(other.total), self.base.minus(other.base))


class UsageKey(NamedTuple):
    """Key of a row in the ledger's table of usage by minute."""

    minute: int
    device: Device
    target: AttributionTarget
    factor: Factor | None
    method: Method
    split: SplitMethod


class RunCpuTime(NamedTuple):
    """CPU time of the live processes of a run since they started, as last collected.

    After a restart, the difference to a new value is what the run used while the daemon was down.
    """

    run: RunKey
    cpu_us: int


class HostCpuTime(NamedTuple):
    """CPU times of the host since boot, as last collected."""

    busy_us: int
    total_us: int


NO_OWNER_TOTALS: Mapping[Owner, tuple[int, int]] = MappingProxyType({})


class Batch(NamedTuple):
    """Changes that one commit writes to the ledger in one transaction."""

    seq: int
    """Sequence number of the checkpoint with the same state; a journal with this or a later number
    is newer."""
    at_ns: int
    wall: float
    counter_states: tuple[CounterState, ...]
    lines: Mapping[AccountKey, Balance]
    """Absolute values of the accounts that changed."""
    usage: Mapping[UsageKey, Amount]
    """Sums since the previous batch."""
    runs: tuple[RunInfo, ...]
    """Runs that started, changed or ended."""
    floors: Mapping[Device, float]
    infos: tuple[DeviceInfo, ...] = ()
    """Devices that are new or changed."""
    clean: bool = False
    """Whether this is the last batch of a clean shutdown."""
    departed: tuple[RunKey, ...] = ()
    """Runs whose totals were added to those of `DEPARTED_RUNS`."""
    owners: Mapping[Owner, tuple[int, int]] = NO_OWNER_TOTALS
    """Absolute values of the owners that changed: counted microjoules and nanograms of departed
    runs."""
    backfill_id: int = 0
    """The last backfill included in the values."""
    journaled_backfill_id: int = 0
    """The last backfill that the journal includes too, so that the ledger may delete it."""
    intensity: str = ""
    """State of the intensity sources to restore after a restart; empty: unchanged."""
    merged: tuple[tuple[RunKey, RunKey], ...] = ()
    """Merged runs, old and new key, in order; applied before everything else."""


class FactorUse(NamedTuple):
    """Energy of a run converted with one factor (None: not converted yet), and its carbon."""

    factor: Factor | None
    energy_uj: int
    carbon_ng: int


class LateCarbon(NamedTuple):
    """Carbon of one account whose intensity arrived after the energy was booked."""

    backfill_id: int
    """Number of the backfill; later ones have greater numbers."""
    line: AccountKey
    """The account that the energy was booked on, even if its run has departed since."""
    carbon_ng: int
    owner: Owner | None = None
    """The owner whose counter includes it once the run has departed."""


class Backfill(NamedTuple):
    """Energy that the ledger converted after its carbon intensity became known."""

    id: int
    late_carbon: tuple[LateCarbon, ...]
    uses: Mapping[RunKey, tuple[FactorUse, ...]] = {}
    """Changes of the factor uses of each run."""


class StoredRun(NamedTuple):
    """What the ledger has stored of a run that is opened."""

    key: RunKey
    info: RunInfo | None = None
    """None: the run is not in the ledger."""
    lines: Mapping[AccountKey, Balance] = {}
    factor_uses: tuple[FactorUse, ...] = ()


class RestoredState(NamedTuple):
    """State of the previous daemon, passed to the constructors of the stages at startup."""

    seq: int = 0
    counter_states: tuple[CounterState, ...] = ()
    lines: Mapping[AccountKey, Balance] = {}
    runs: tuple[RunInfo, ...] = ()
    """Open runs, and ended runs that are still published."""
    factor_uses: Mapping[RunKey, tuple[FactorUse, ...]] = {}
    floors: Mapping[Device, float] = {}
    run_cpu: tuple[RunCpuTime, ...] = ()
    machine_cpu: HostCpuTime | None = None
    notes: tuple[str, ...] = ()
    """Notes about the recovery; each is logged once."""
    wall: float = 0.0
    """Wall clock of the last write to the journal or the ledger; 0 if there was none."""
    owners: Mapping[Owner, tuple[int, int]] = NO_OWNER_TOTALS
    """Counted microjoules and nanograms of departed runs, by owner."""
    backfill_id: int = 0
    """The last backfill included in the accounts."""
    intensity: str = ""
    """State of the intensity sources."""
    merged: tuple[tuple[RunKey, RunKey], ...] = ()
    """Merged runs, old and new key, to be included in the first batch after startup."""
