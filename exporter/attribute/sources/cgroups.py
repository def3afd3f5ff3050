"""CPU time and memory of a cgroup, version 2 or 1; exited processes are included by the kernel."""

import os
import re
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.process_table import MEMORY_READ_TICKS
from exporter.errors import RequestRefused, Unavailable
from exporter.model.runs import RunInfo, RunKey
from exporter.units import NANOSECONDS_PER_MICROSECOND

V2 = ""
"""How /proc/PID/cgroup names the one hierarchy of version 2."""
FILE_BYTES = 16384
CLOCK_FLAGS = os.O_RDONLY | os.O_CLOEXEC
CLOCK_BYTES = 64
"""Enough for what comes first in cpu.stat."""


def cgroup_mounts(procfs: str) -> dict[str, str]:
    """The first mount point of each cgroup hierarchy: `""` for version 2, else by controller.

    Raises OSError.
    """
    found: dict[str, str] = {}
    for hierarchy, point in cgroup_mount_points(procfs):
        found.setdefault(hierarchy, point)
    return found


def cgroup_mount_points(procfs: str) -> Iterator[tuple[str, str]]:
    """Every mount of a cgroup hierarchy, named like in `mounts`, in order. Raises OSError."""
    for line in _lines(os.path.join(procfs, "self", "mountinfo")):
        left, _, right = line.partition(" - ")
        point, kind = _unescaped(left.split(" ")[4]), right.split(" ")[0]
        if kind == "cgroup2":
            yield V2, point
        elif kind == "cgroup":
            for controller in right.split(" ")[2].split(","):
                yield controller, point


def cgroup_paths(procfs: str, pid: int | str) -> dict[str, str]:
    """The cgroup of a process in each hierarchy, keyed like `mounts`. Raises OSError."""
    found = {}
    for line in _lines(os.path.join(procfs, str(pid), "cgroup")):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _lines(path: str) -> list[str]:
    """Lines of a file of the kernel, whose names may be of any bytes."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [line for line in file.read().split("\n") if line]


def _unescaped(field: str) -> str:
    """A field of proc_pid_mountinfo(5): blanks and backslashes in it are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


class _CpuClock:
    """CPU time of one cgroup. Its file is kept open: to open it costs as much as to read it."""

    def __init__(self, directory: str, hierarchy: str) -> None:
        self._is_v2 = hierarchy == V2
        self._path = f"{directory}/{'cpu.stat' if self._is_v2 else 'cpuacct.usage'}"
        self._close: weakref.finalize[[int], _CpuClock] | None = None
        self._descriptor = -1
        self.last_us = 0
        """The last reading."""

    def read_us(self) -> int:
        """Microseconds since the cgroup was made. Raises OSError when it is gone."""
        if self._close is None:
            self._descriptor = os.open(self._path, CLOCK_FLAGS)
            self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            text = os.pread(self._descriptor, CLOCK_BYTES, 0)
        except OSError:
            self._close()  # another cgroup may have the same path by now
            self._close = None
            raise
        self.last_us = (
            int(text.split(None, 2)[1]) if self._is_v2 else int(text) // NANOSECONDS_PER_MICROSECOND
        )
        return self.last_us


class CgroupMeter:
    """CPU time and memory of one cgroup, or of several that do not contain each other.

    `at` has the path of the cgroup in each hierarchy, or the paths of several.
    Raises Unavailable if there is none but the root.
    """

    def __init__(
        self, mounted: Mapping[str, str], at: Mapping[str, str] | Mapping[str, Sequence[str]]
    ) -> None:
        self._clocks: dict[str, _CpuClock] = {}
        """By path."""
        self._hierarchy = V2
        self.gone_us = 0
        """CPU time in `last_us` of cgroups that no longer exist."""
        self.last_us = 0
        self.follow(mounted, at)
        self.last_us = self.cpu_us()

    def follow(
        self, mounted: Mapping[str, str], at: Mapping[str, str] | Mapping[str, Sequence[str]]
    ) -> None:
        """Measure these cgroups from now on; what the others used stays in the sum.

        A cgroup that was not measured before counts from when it was made.
        """
        own = {
            name: [path for path in ([paths] if isinstance(paths, str) else paths) if path != "/"]
            for name, paths in at.items()
            if name in mounted
        }
        hierarchy = V2 if own.get(V2) else "cpuacct"
        if not own.get(hierarchy):
            raise Unavailable(
                "the process is in no cgroup of its own, so its cgroup is the whole machine; "
                "use scope tree, or start it in a cgroup, for example by systemd-run --scope"
            )
        is_other = bool(self._clocks) and hierarchy != self._hierarchy
        before = {} if is_other else self._clocks
        clocks = {
            path: before.get(path) or _CpuClock(mounted[hierarchy] + path, hierarchy)
            for path in own[hierarchy]
        }
        if is_other:  # other clocks of the same CPU time
            self.gone_us = self.last_us - sum(clock.read_us() for clock in clocks.values())
        self.gone_us += sum(before[path].last_us for path in before.keys() - clocks.keys())
        self._hierarchy, self._clocks = hierarchy, clocks
        self._files = {
            name: [mounted[name] + path for path in paths] for name, paths in own.items()
        }
        path = own[hierarchy][0]
        self.path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        """Which cgroup it is, the first of several, as valid text."""

    def advance_us(self) -> int:
        """CPU time since the last call; 0 once the cgroup is gone."""
        try:
            now_us = self.cpu_us()
        except OSError:
            return 0
        used, self.last_us = max(0, now_us - self.last_us), now_us
        return used

    def cpu_us(self) -> int:
        """CPU time since the cgroups were made, microseconds. Raises OSError when all are gone."""
        return sum(self._readings()) + self.gone_us

    def _readings(self) -> list[int]:
        readings = []
        error: OSError | None = None
        for clock in self._clocks.values():
            try:
                readings.append(clock.read_us())
            except OSError as missing:
                self.gone_us += clock.last_us
                clock.last_us = 0
                error = missing
        if error is not None and not readings:
            raise error
        return readings

    def memory_bytes(self) -> int:
        """Anonymous and shared memory; 0 where no hierarchy accounts for it."""
        for hierarchy, names in (
            (V2, (b"anon", b"shmem")),
            ("memory", (b"total_rss", b"total_shmem")),
        ):
            found = list(self._read(hierarchy, "memory.stat"))
            if found:
                rows = [dict(row.split() for row in text.splitlines()) for text in found]
                return sum(int(row.get(name, 0)) for row in rows for name in names)
        return 0

    def containing_path(self, at: Mapping[str, str]) -> str:
        """The path of the cgroup that a process with these is in, or below; "" if in none."""
        inside = f"{at.get(self._hierarchy, '')}/"
        return next((path for path in self._clocks if inside.startswith(f"{path}/")), "")

    def has_processes(self) -> bool:
        """Whether a process is left in it or, in version 2, in a cgroup below it."""
        if self._hierarchy == V2:
            return any(b"populated 1" in text for text in self._read(V2, "cgroup.events"))
        return any(self._read("cpuacct", "cgroup.procs"))

    def _read(self, hierarchy: str, name: str) -> Iterator[bytes]:
        """What this file of each cgroup contains, if it has one."""
        for directory in self._files.get(hierarchy, ()):
            with suppress(OSError), open(f"{directory}/{name}", "rb", buffering=0) as file:
                yield file.read(FILE_BYTES)


class RunCgroups:
    """The meters of the open runs that own a cgroup."""

    def __init__(self, procfs: str, run_registry: RunRegistry) -> None:
        self._procfs = procfs
        self._run_registry = run_registry
        self._meters: dict[RunKey, dict[str, CgroupMeter]] = {}
        """By run and by what tells the cgroups of one run apart."""
        self._memories: dict[RunKey, int] = {}
        self._look = 0
        self._clocks_us: dict[RunKey, int] = {}

    def meter(self, pid: int) -> CgroupMeter:
        """A meter for the cgroup that a process is in. Raises Refused."""
        try:
            return CgroupMeter(cgroup_mounts(self._procfs), cgroup_paths(self._procfs, pid))
        except (OSError, Unavailable) as error:
            raise RequestRefused(409, f"scope cgroup is not possible: {error}") from None

    def add(self, run: RunKey, meter: CgroupMeter, name: str = "") -> None:
        """Meter a run by this cgroup too, unless it has one of this name already.

        One of before a restart goes on from the clocks that were last seen of it.
        """
        energy_counters = self._meters.setdefault(run, {})
        if name not in energy_counters:
            if run in self._clocks_us:
                meter.last_us = 0  # what was seen before is taken off at the next charge
            energy_counters[name] = meter

    def has(self, run: RunKey, name: str = "") -> bool:
        """Whether the run is metered by a cgroup of this name."""
        return name in self._meters.get(run, ())

    def keep_only(self, run: RunKey, names: Collection[str]) -> None:
        """Stop metering a run by cgroups of other names."""
        energy_counters = self._meters.get(run, {})
        for name in energy_counters.keys() - names:
            del energy_counters[name]

    def remove(self, run: RunKey) -> None:
        """Stop metering a run that has ended."""
        self._meters.pop(run, None)
        self._memories.pop(run, None)

    def transfer_meters(self, old: RunKey, new: RunKey) -> None:
        """Meter another run by the cgroups of one that was merged into it."""
        self._meters.setdefault(new, {}).update(self._meters.pop(old, {}))
        self._memories.pop(old, None)
        if old in self._clocks_us:
            self._clocks_us[new] = self._clocks_us.pop(old) + self._clocks_us.get(new, 0)

    def restore_meters(self, runs: Iterable[RunInfo], clocks_us: dict[RunKey, int]) -> None:
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
            except RequestRefused:
                continue
            if meter.path == run.cgroup:
                meter.last_us = clocks_us.pop(run.key, meter.last_us)
                self.add(run.key, meter)

    def had_used_cpu(self, run: RunKey) -> bool:
        """Whether the cgroup of a run of before a restart, not found again yet, had used time."""
        return self._clocks_us.get(run, 0) > 0

    def add_cpu_time(self, used_us: dict[RunKey, int]) -> None:
        """Put in what the cgroups used since the last call, less what runs inside them used."""
        totals = {
            run: sum(meter.advance_us() for meter in energy_counters.values())
            for run, energy_counters in self._meters.items()
        }
        for run in totals.keys() & self._clocks_us.keys():
            totals[run] = max(0, totals[run] - self._clocks_us.pop(run))
        self._put_in(totals, used_us)

    def add_memory(self, memory_by_run: dict[RunKey, int]) -> None:
        """Put in the memory of the cgroups, less that of runs inside them. Bytes.

        Each call reads a part of the cgroups, those that are new among them.
        """
        self._look += 1
        for place, (run, energy_counters) in enumerate(self._meters.items(), self._look):
            if place % MEMORY_READ_TICKS == 0 or run not in self._memories:
                self._memories[run] = sum(
                    meter.memory_bytes() for meter in energy_counters.values()
                )
        self._put_in(self._memories, memory_by_run)

    def clocks_us(self) -> dict[RunKey, int]:
        """The clocks of each run's cgroups, as last seen; of those that can be read again."""
        return {
            run: sum(meter.last_us - meter.gone_us for meter in energy_counters.values())
            for run, energy_counters in self._meters.items()
        }

    def has_processes(self, run: RunKey) -> bool:
        """Whether the run owns a cgroup that has processes."""
        return any(meter.has_processes() for meter in self._meters.get(run, {}).values())

    def run_of(self, pid: int) -> RunKey | None:
        """The run that owns the innermost cgroup around a process; None if none does."""
        if not self._meters:
            return None
        try:
            at = cgroup_paths(self._procfs, pid)
        except OSError:
            return None
        around = [
            (len(path), run)
            for run, energy_counters in self._meters.items()
            for meter in energy_counters.values()
            if (path := meter.containing_path(at))
        ]
        return max(around)[1] if around else None

    def _put_in(self, totals: Mapping[RunKey, int], amounts: dict[RunKey, int]) -> None:
        """Replace the amounts of runs that have a total, which is with all runs inside them."""
        if not totals:
            return
        inside: dict[RunKey, int] = {}
        for run in self._run_registry.innermost_first():
            within = inside.get(run.key, 0)
            if run.key in totals:
                amounts[run.key] = max(0, totals[run.key] - within)
            if run.enclosing is not None:
                total = amounts.get(run.key, 0) + within
                inside[run.enclosing] = inside.get(run.enclosing, 0) + total
