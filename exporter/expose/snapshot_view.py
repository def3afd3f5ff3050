"""Sums over one snapshot for exposition, by device, method, reason and run, in exact integers."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import TypeAlias

from exporter.expose.process_collector import ProcessState
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.runs import RUN_LABELS, Owner
from exporter.model.snapshot import DeviceState, Snapshot
from exporter.model.workload import AttributionTarget, UnattributedReason

REASONS_BY_KIND = {
    DeviceKind.CPU: (UnattributedReason.IDLE, UnattributedReason.OTHER, UnattributedReason.RESTART),
    DeviceKind.DRAM: (
        UnattributedReason.IDLE,
        UnattributedReason.OTHER,
        UnattributedReason.RESTART,
    ),
    DeviceKind.REST: (UnattributedReason.OTHER, UnattributedReason.RESTART),
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

    def add(
        self,
        counted_uj: int,
        held_uj: int,
        counted_ng: int,
        total_uj: int,
        total_ng: int,
        power_watts: float | None,
    ) -> None:
        """Add one balance."""
        self.counted_uj += counted_uj
        self.held_uj += held_uj
        self.counted_ng += counted_ng
        self.total_uj += total_uj
        self.total_ng += total_ng
        if power_watts is not None:
            self.power_watts = power_watts + (self.power_watts or 0.0)

    def include(self, other: "Tally") -> None:
        """Add another tally."""
        self.add(
            other.counted_uj,
            other.held_uj,
            other.counted_ng,
            other.total_uj,
            other.total_ng,
            other.power_watts,
        )


Tallies: TypeAlias = dict[tuple[str, ...], Tally]
"""Tallies by the label values under which they are exported."""


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of all tallies."""
    total = Tally()
    for tally in tallies:
        total.include(tally)
    return total


class SnapshotView:
    """A snapshot and its sums.

    `devices`, `by_method` and `unattributed` are keyed by device kind and id first. For each
    device, exactly: `devices` = `attributed` + its `unattributed` = its `by_method`.
    """

    def __init__(self, snapshot: Snapshot, process: ProcessState | None = None) -> None:
        self.snapshot = snapshot
        self.process = process
        self.devices: Tallies = defaultdict(Tally)
        self.by_method: Tallies = defaultdict(Tally)
        self.attributed: Tallies = defaultdict(Tally)
        self.unattributed: Tallies = defaultdict(Tally)
        self.runs: Tallies = defaultdict(Tally)
        """By RUN_LABELS, device kind and device id; the device id is empty except for GPUs."""
        self._open_sums()
        self._add_rows()

    def run_totals(self) -> Tallies:
        """Return the sum of each exported run over its devices, by RUN_LABELS."""
        totals: Tallies = {run.label_values: Tally() for run in self.snapshot.runs}
        for labels, tally in self.runs.items():
            totals[labels[: len(RUN_LABELS)]].include(tally)
        return totals

    @cached_property
    def owners(self) -> dict[Owner, Tally]:
        """Sums of all runs of each owner, including runs that are no longer exported."""
        sums: dict[Owner, Tally] = defaultdict(Tally)
        for owner, energy_uj, carbon_ng in self.snapshot.owners:
            sums[owner].add(energy_uj, 0, carbon_ng, 0, 0, None)
        of_runs: dict[AttributionTarget, Tally] = {
            key: sums[owner] for key, owner in self.snapshot.owner_of.items()
        }
        for _, target, _, _, (total, base), _ in self.snapshot.rows:
            tally = of_runs.get(target)
            if tally is not None:
                tally.counted_uj += total[0] - base[0]
                tally.counted_ng += total[2] - base[2]
        return sums

    @cached_property
    def by_split(self) -> Tallies:
        """Energy attributed to runs, by device kind, device id and split.

        Computed only on demand, since no metric family needs it.
        """
        sums: Tallies = defaultdict(Tally)
        for device, target, _, split, balance, power_watts in self.snapshot.rows:
            if not isinstance(target, UnattributedReason):
                counted, total = balance.counted, balance.total
                sums[*device, split].add(*counted, total.energy_uj, total.carbon_ng, power_watts)
        return sums

    def _open_sums(self) -> None:
        """Create every expected sum at 0, so that each counter is first exported at 0."""
        counted = [state for state in self.snapshot.devices if state.is_counted]
        for state in counted:
            device = state.info.device
            self.devices[device] = Tally()
            self.attributed[device] = Tally()
            for method in methods_of(state):
                self.by_method[*device, method] = Tally()
            for reason in REASONS_BY_KIND[device.kind]:
                self.unattributed[*device, reason] = Tally()
        kinds = {state.info.device.kind for state in counted} - {
            DeviceKind.GPU,
            DeviceKind.REST,
        }
        for run in self.snapshot.runs:
            for kind in sorted(kinds):
                self.runs[*run.label_values, kind, ""] = Tally()

    def _add_rows(self) -> None:
        shown: dict[AttributionTarget, tuple[tuple[str, str], bool]] = {
            run.key: (run.label_values, run.ended is None) for run in self.snapshot.runs
        }
        parts: dict[tuple[Device, Method, UnattributedReason | None], Tally] = defaultdict(Tally)
        for device, target, method, _, (total, base), power_watts in self.snapshot.rows:
            total_uj, held_uj, total_ng = total
            base_uj, base_held_uj, base_ng = base
            counted_uj, counted_ng = total_uj - base_uj, total_ng - base_ng
            held_uj -= base_held_uj
            reason = target if isinstance(target, UnattributedReason) else None
            parts[device, method, reason].add(
                counted_uj, held_uj, counted_ng, total_uj, total_ng, power_watts
            )
            run = shown.get(target)
            if run is not None:
                labels, is_open = run
                kind, name = device
                ids = (*labels, kind, name if kind is DeviceKind.GPU else "")
                self.runs[ids].add(
                    counted_uj,
                    held_uj,
                    counted_ng,
                    total_uj,
                    total_ng,
                    power_watts if is_open else None,
                )
        for (device, method, reason), tally in parts.items():
            self.devices[device].include(tally)
            self.by_method[*device, method].include(tally)
            attributed = self.attributed[device]
            if reason is None:
                attributed.include(tally)
            else:
                self.unattributed[*device, reason].include(tally)


def methods_of(state: DeviceState) -> tuple[Method, ...]:
    """Return the measurement methods that a device may use.

    The energy of a GPU is integrated from power while its counter cannot be read.
    """
    info = state.info
    if info.device.kind is DeviceKind.GPU and info.method is Method.COUNTER:
        return (Method.COUNTER, Method.INTEGRATED)
    return (info.method,)
