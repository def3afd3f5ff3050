"""Runs that own a cgroup: the kernel's clocks of it go before those of single processes."""

from collections.abc import Collection, Iterable, Mapping

from exporter.attribute.runbook import Runbook
from exporter.attribute.sources.cgroups import CgroupMeter, mounts, paths
from exporter.attribute.sources.memory import MEMORY_LOOKS
from exporter.errors import Refused, Unavailable
from exporter.model.runs import RunInfo, RunKey


class CgroupRuns:
    """The meters of the open runs that own a cgroup."""

    def __init__(self, procfs: str, runbook: Runbook) -> None:
        self._procfs = procfs
        self._runbook = runbook
        self._meters: dict[RunKey, dict[str, CgroupMeter]] = {}
        """By run and by what tells the cgroups of one run apart."""
        self._memories: dict[RunKey, int] = {}
        self._look = 0
        self._clocks_us: dict[RunKey, int] = {}

    def meter(self, pid: int) -> CgroupMeter:
        """A meter for the cgroup that a process is in. Raises Refused."""
        try:
            return CgroupMeter(mounts(self._procfs), paths(self._procfs, pid))
        except (OSError, Unavailable) as error:
            raise Refused(409, f"scope cgroup is not possible: {error}") from None

    def add(self, run: RunKey, meter: CgroupMeter, name: str = "") -> None:
        """Meter a run by this cgroup too, unless it has one of this name already.

        One of before a restart goes on from the clocks that were last seen of it.
        """
        meters = self._meters.setdefault(run, {})
        if name not in meters:
            if run in self._clocks_us:
                meter.last_us = 0  # what was seen before is taken off at the next charge
            meters[name] = meter

    def has(self, run: RunKey, name: str = "") -> bool:
        """Whether the run is metered by a cgroup of this name."""
        return name in self._meters.get(run, ())

    def keep(self, run: RunKey, names: Collection[str]) -> None:
        """Stop metering a run by cgroups of other names."""
        meters = self._meters.get(run, {})
        for name in meters.keys() - names:
            del meters[name]

    def remove(self, run: RunKey) -> None:
        """Stop metering a run that has ended."""
        self._meters.pop(run, None)
        self._memories.pop(run, None)

    def become(self, old: RunKey, new: RunKey) -> None:
        """Meter another run by the cgroups of one that was merged into it."""
        self._meters.setdefault(new, {}).update(self._meters.pop(old, {}))
        self._memories.pop(old, None)
        if old in self._clocks_us:
            self._clocks_us[new] = self._clocks_us.pop(old) + self._clocks_us.get(new, 0)

    def find_again(self, runs: Iterable[RunInfo], clocks_us: dict[RunKey, int]) -> None:
        """Meter runs of before a restart, from the clocks that were last seen of them on.

        The clocks that are made use of are taken out of `clocks_us`.
        """
        for run in runs:
            if run.scope != "cgroup":
                continue
            if not run.lead_pid and run.key in clocks_us:  # a job, which is found by its cgroup
                self._clocks_us[run.key] = clocks_us.pop(run.key)
                continue
            try:
                meter = self.meter(run.lead_pid)
            except Refused:
                continue
            if meter.path == run.cgroup:
                meter.last_us = clocks_us.pop(run.key, meter.last_us)
                self.add(run.key, meter)

    def was_used(self, run: RunKey) -> bool:
        """Whether the cgroup of a run of before a restart, not found again yet, had used time."""
        return self._clocks_us.get(run, 0) > 0

    def charge(self, used_us: dict[RunKey, int]) -> None:
        """Put in what the cgroups used since the last call, less what runs inside them used."""
        totals = {
            run: sum(meter.advance_us() for meter in meters.values())
            for run, meters in self._meters.items()
        }
        for run in totals.keys() & self._clocks_us.keys():
            totals[run] = max(0, totals[run] - self._clocks_us.pop(run))
        self._put_in(totals, used_us)

    def hold(self, memories: dict[RunKey, int]) -> None:
        """Put in the memory of the cgroups, less that of runs inside them. Bytes.

        Each call reads a part of the cgroups, those that are new among them.
        """
        self._look += 1
        for place, (run, meters) in enumerate(self._meters.items(), self._look):
            if place % MEMORY_LOOKS == 0 or run not in self._memories:
                self._memories[run] = sum(meter.memory_bytes() for meter in meters.values())
        self._put_in(self._memories, memories)

    def clocks_us(self) -> dict[RunKey, int]:
        """The clocks of each run's cgroups, as last seen; of those that can be read again."""
        return {
            run: sum(meter.last_us - meter.gone_us for meter in meters.values())
            for run, meters in self._meters.items()
        }

    def populated(self, run: RunKey) -> bool:
        """Whether the run owns a cgroup that has processes."""
        return any(meter.populated() for meter in self._meters.get(run, {}).values())

    def run_of(self, pid: int) -> RunKey | None:
        """The run that owns the innermost cgroup around a process; None if none does."""
        if not self._meters:
            return None
        try:
            at = paths(self._procfs, pid)
        except OSError:
            return None
        around = [
            (len(path), run)
            for run, meters in self._meters.items()
            for meter in meters.values()
            if (path := meter.holder(at))
        ]
        return max(around)[1] if around else None

    def _put_in(self, totals: Mapping[RunKey, int], amounts: dict[RunKey, int]) -> None:
        """Replace the amounts of runs that have a total, which is with all runs inside them."""
        if not totals:
            return
        inside: dict[RunKey, int] = {}
        for run in self._runbook.innermost_first():
            within = inside.get(run.key, 0)
            if run.key in totals:
                amounts[run.key] = max(0, totals[run.key] - within)
            if run.enclosing is not None:
                total = amounts.get(run.key, 0) + within
                inside[run.enclosing] = inside.get(run.enclosing, 0) + total
