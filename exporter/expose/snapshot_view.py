"""Sums over one snapshot for exposition, by device, method, reason and run, in exact integers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import NamedTuple, TypeAlias

from exporter.expose.process_collector import ProcessState
from exporter.model.ledger import Amount
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.snapshot import AccountSnapshot, DeviceState, Snapshot
from exporter.model.workload import AttributionTarget, UnattributedReason

REASONS_BY_KIND = {
    DeviceKind.CPU: (UnattributedReason.IDLE, UnattributedReason.OTHER, UnattributedReason.RESTART),
    DeviceKind.DRAM: (
        UnattributedReason.IDLE,
        UnattributedReason.OTHER,
        UnattributedReason.RESTART,
    ),
    DeviceKind.GPU: (
        UnattributedReason.IDLE,
        UnattributedReason.UNALLOCATED,
        UnattributedReason.UNKNOWN_PROCESS,
        UnattributedReason.RESTART,
    ),
}
"""Reasons exported at 0 from the first tick, so that `increase()` does not miss the first step."""


class Tally:
    """A sum over account balances.

    `counted_*` are since the counter began (exported by counters), `total_*` since the ledger was
    created, and `held_uj` is the counted idle energy of held devices. `power_watts` is None if none
    of the balances has a power.
    """

    __slots__ = ("counted_ng", "counted_uj", "held_uj", "power_watts", "total_ng", "total_uj")

    def __init__(self) -> None:
        self.counted_uj = 0
        self.held_uj = 0
        self.counted_ng = 0
        self.total_uj = 0
        self.total_ng = 0
        self.power_watts: float | None = None

    def add(self, total: Amount, base: Amount, power_watts: float | None) -> None:
        """Add one balance."""
        total_uj, held_uj, total_ng = total
        base_uj, base_held_uj, base_ng = base
        self.counted_uj += total_uj - base_uj
        self.held_uj += held_uj - base_held_uj
        self.counted_ng += total_ng - base_ng
        self.total_uj += total_uj
        self.total_ng += total_ng
        if power_watts is not None:
            self.power_watts = power_watts + (self.power_watts or 0.0)

    def include(self, other: "Tally") -> None:
        """Add another tally."""
        self.counted_uj += other.counted_uj
        self.held_uj += other.held_uj
        self.counted_ng += other.counted_ng
        self.total_uj += other.total_uj
        self.total_ng += other.total_ng
        if other.power_watts is not None:
            self.power_watts = other.power_watts + (self.power_watts or 0.0)


Tallies: TypeAlias = dict[tuple[str, ...], Tally]
"""Tallies by the label values under which they are exported."""


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of all tallies."""
    total = Tally()
    for tally in tallies:
        total.include(tally)
    return total


class TallyColumns(NamedTuple):
    """Tallies and, in the same order, the label values under which they are exported."""

    labels: Sequence[tuple[str, ...]]
    tallies: Sequence[Tally]


class RunView:
    """An exported run with its rows; the same object in consecutive views while both are unchanged.

    `kinds` are the device kinds, except GPUs, for which every run has a series from its start.
    """

    __slots__ = ("by_device", "by_kind", "info", "kinds", "rows")

    def __init__(
        self, info: RunInfo, kinds: Sequence[DeviceKind], rows: Sequence[AccountSnapshot]
    ) -> None:
        self.info = info
        self.kinds = kinds
        self.rows = rows
        labels, is_open = info.label_values, info.ended is None
        self.by_device: Tallies = {(*labels, kind, ""): Tally() for kind in kinds}
        """By RUN_LABELS, device kind and device id; the id is empty except for GPUs."""
        for (kind, name), _, _, _, (total, base), power_watts in rows:
            ids = (*labels, kind, name if kind is DeviceKind.GPU else "")
            tally = self.by_device.get(ids)
            if tally is None:
                tally = self.by_device[ids] = Tally()
            tally.add(total, base, power_watts if is_open else None)
        self.by_kind: Tallies = {}
        """By RUN_LABELS and device kind."""
        for ids, tally in self.by_device.items():
            of_kind = self.by_kind.setdefault(ids[:-1], tally)
            if of_kind is not tally:  # several GPUs
                self.by_kind[ids[:-1]] = sum_tallies((of_kind, tally))


class SnapshotView:
    """A snapshot and its sums.

    `devices`, `by_method` and `unattributed` are keyed by device kind and id first. For each
    device, exactly: `devices` = `attributed` + its `unattributed` = its `by_method`. `before` is
    the view of the previous tick, from which the runs that have not changed are taken.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        process: ProcessState | None = None,
        before: "SnapshotView | None" = None,
    ) -> None:
        self.snapshot = snapshot
        self.process = process
        self.devices: Tallies = defaultdict(Tally)
        self.by_method: Tallies = defaultdict(Tally)
        self.attributed: Tallies = defaultdict(Tally)
        self.unattributed: Tallies = defaultdict(Tally)
        self._rows_of: dict[AttributionTarget, list[AccountSnapshot]] = defaultdict(list)
        self._open_sums()
        self._add_rows()
        self.runs: dict[RunKey, RunView] = self._view_runs({} if before is None else before.runs)

    @cached_property
    def runs_by_device(self) -> TallyColumns:
        """Sums of each exported run by RUN_LABELS, device kind and device id.

        The device id is empty except for GPUs.
        """
        return _columns(run.by_device for run in self.runs.values())

    @cached_property
    def runs_by_kind(self) -> TallyColumns:
        """Sums of each exported run by RUN_LABELS and device kind."""
        return _columns(run.by_kind for run in self.runs.values())

    @cached_property
    def runs_with_power(self) -> TallyColumns:
        """Those of `runs_by_device` with a power."""
        labels, tallies = self.runs_by_device
        known = [tally.power_watts is not None for tally in tallies]
        return TallyColumns([*compress(labels, known)], [*compress(tallies, known)])

    @cached_property
    def owners(self) -> dict[Owner, Tally]:
        """Sums of all runs of each owner, including runs that are no longer exported."""
        sums: dict[Owner, Tally] = defaultdict(Tally)
        for owner, energy_uj, carbon_ng in self.snapshot.owners:
            tally = sums[owner]
            tally.counted_uj += energy_uj
            tally.counted_ng += carbon_ng
        for key, owner in self.snapshot.owner_of.items():
            tally = sums[owner]
            for _, _, _, _, (total, base), _ in self._rows_of.get(key, ()):
                tally.counted_uj += total[0] - base[0]
                tally.counted_ng += total[2] - base[2]
        return sums

    @cached_property
    def by_split(self) -> Tallies:
        """Energy attributed to runs, by device kind, device id and split.

        Computed only on demand, since no metric family needs it.
        """
        sums: Tallies = defaultdict(Tally)
        for device, target, _, split, (total, base), power_watts in self.snapshot.rows:
            if not isinstance(target, UnattributedReason):
                sums[*device, split].add(total, base, power_watts)
        return sums

    def _open_sums(self) -> None:
        """Create every expected sum at 0, so that each counter is first exported at 0."""
        for state in self.snapshot.devices:
            if not state.is_counted:
                continue
            device = state.info.device
            self.devices[device] = Tally()
            self.attributed[device] = Tally()
            for method in methods_of(state):
                self.by_method[*device, method] = Tally()
            for reason in REASONS_BY_KIND[device.kind]:
                self.unattributed[*device, reason] = Tally()

    def _add_rows(self) -> None:
        parts: dict[tuple[Device, Method, UnattributedReason | None], Tally] = defaultdict(Tally)
        for row in self.snapshot.rows:
            self._rows_of[row.target].append(row)
        for target, rows in self._rows_of.items():
            reason = target if isinstance(target, UnattributedReason) else None
            for device, _, method, _, (total, base), power_watts in rows:
                parts[device, method, reason].add(total, base, power_watts)
        for (device, method, reason), tally in parts.items():
            self.devices[device].include(tally)
            self.by_method[*device, method].include(tally)
            if reason is None:
                self.attributed[device].include(tally)
            else:
                self.unattributed[*device, reason].include(tally)

    def _view_runs(self, before: Mapping[RunKey, RunView]) -> dict[RunKey, RunView]:
        counted = {state.info.device.kind for state in self.snapshot.devices if state.is_counted}
        kinds = sorted(counted - {DeviceKind.GPU})
        runs: dict[RunKey, RunView] = {}
        for run in self.snapshot.runs:
            key = run.key
            rows = self._rows_of.get(key, [])
            known = before.get(key)
            if known is None or known.info is not run or known.rows != rows or known.kinds != kinds:
                known = RunView(run, kinds, rows)
            runs[key] = known
        return runs


def _columns(runs: Iterable[Tallies]) -> TallyColumns:
    labels: list[tuple[str, ...]] = []
    tallies: list[Tally] = []
    for of_run in runs:
        labels += of_run
        tallies += of_run.values()
    return TallyColumns(labels, tallies)


def methods_of(state: DeviceState) -> tuple[Method, ...]:
    """Return the measurement methods that a device may use.

    The energy of a GPU is integrated from power while its counter cannot be read.
    """
    info = state.info
    if info.device.kind is DeviceKind.GPU and info.method is Method.COUNTER:
        return (Method.COUNTER, Method.INTEGRATED)
    return (info.method,)
