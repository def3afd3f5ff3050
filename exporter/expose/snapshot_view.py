"""Sums over one snapshot for exposition, by device, method, reason and run, in exact integers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress
from typing import NamedTuple

from exporter.expose.process_collector import ProcessState
from exporter.expose.tallies import RowSums, Tallies, Tally, TargetSums, sum_tallies
from exporter.model.readings import DeviceKind, Method
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.snapshot import DeviceState, Snapshot
from exporter.model.workload import UnattributedReason

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


class TallyColumns(NamedTuple):
    """Tallies and, in the same order, the label values under which they are exported."""

    labels: Sequence[tuple[str, ...]]
    tallies: Sequence[Tally]


class RunView:
    """An exported run and its sums; the same object in consecutive views if nothing has changed.

    `kinds` are the device kinds, except GPUs, for which every run has a series from its start.
    """

    __slots__ = ("by_device", "by_kind", "info", "kinds", "labels", "sums", "total_ng")

    def __init__(self, info: RunInfo, kinds: Sequence[DeviceKind], sums: TargetSums | None) -> None:
        self.info = info
        self.kinds = kinds
        self.sums = sums
        labels = self.labels = info.label_values
        self.by_device: Tallies = {}
        """By RUN_LABELS, device kind and device id; the id is empty except for GPUs."""
        for ((kind, name), _), part in sums.parts.items() if sums is not None else ():
            if info.ended is not None:
                part = part.without_power()  # noqa: PLW2901
            _put(self.by_device, (*labels, kind, name if kind is DeviceKind.GPU else ""), part)
        for kind in kinds:
            if (*labels, kind, "") not in self.by_device:
                self.by_device[*labels, kind, ""] = Tally()
        self.total_ng = sum([tally.total_ng for tally in self.by_device.values()])
        self.by_kind: Tallies = {}
        """By RUN_LABELS and device kind."""
        for ids, tally in self.by_device.items():
            _put(self.by_kind, ids[:-1], tally)


def _put(tallies: Tallies, labels: tuple[str, ...], tally: Tally) -> None:
    """Add a tally to the one under these labels, if there is one; neither is changed."""
    known = tallies.get(labels)
    tallies[labels] = tally if known is None else sum_tallies((known, tally))


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
        self.row_sums: RowSums = RowSums(snapshot.rows, None if before is None else before.row_sums)
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
        tallies: dict[Owner, Tally] = defaultdict(Tally)
        for owner, energy_uj, carbon_ng in self.snapshot.owners:
            tally = tallies[owner]
            tally.counted_uj += energy_uj
            tally.counted_ng += carbon_ng
        for key, owner in self.snapshot.owner_of.items():
            tally = tallies[owner]
            sums = self.row_sums.targets.get(key)
            for part in sums.parts.values() if sums is not None else ():
                tally.counted_uj += part.counted_uj
                tally.counted_ng += part.counted_ng
        return tallies

    @cached_property
    def by_split(self) -> Tallies:
        """Energy attributed to runs, by device kind, device id and split.

        Computed only on demand, since no metric family needs it.
        """
        sums: Tallies = defaultdict(Tally)
        for device, target, _, split, (total, base), power_watts in self.snapshot.rows:
            if not isinstance(target, UnattributedReason):
                sums[*device, split].include(Tally(total, base, power_watts))
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
        for target, sums in self.row_sums.targets.items():
            if isinstance(target, UnattributedReason):
                for (device, method), part in sums.parts.items():
                    self.devices[device].include_amounts(part)
                    self.by_method[*device, method].include_amounts(part)
                    self.unattributed[*device, target].include(part)
        for (device, method), part in self.row_sums.attributed.items():
            self.devices[device].include_amounts(part)
            self.by_method[*device, method].include_amounts(part)
            self.attributed[device].include_amounts(part)

    def _view_runs(self, before: Mapping[RunKey, RunView]) -> dict[RunKey, RunView]:
        counted = {state.info.device.kind for state in self.snapshot.devices if state.is_counted}
        kinds = sorted(counted - {DeviceKind.GPU, DeviceKind.REST})
        targets = self.row_sums.targets
        runs: dict[RunKey, RunView] = {}
        for run in self.snapshot.runs:
            key = run.key
            sums = targets.get(key)
            view = before.get(key)
            if view is None or view.info is not run or view.sums is not sums or view.kinds != kinds:
                view = RunView(run, kinds, sums)
            runs[key] = view
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
