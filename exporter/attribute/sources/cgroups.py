"""CPU time and memory of cgroups, version 2 or 1; the kernel includes exited processes."""

import os
import re
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress

from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.process_table import MEMORY_READ_TICKS
from exporter.errors import RequestRefused, Unavailable
from exporter.model.runs import RunInfo, RunKey
from exporter.units import NANOSECONDS_PER_MICROSECOND

MOUNT_FIELDS, FILE_SYSTEM_FIELDS = 6, 3
"""Least number of fields before and after the separator, proc_pid_mountinfo(5)."""
V2 = ""
"""Name of the version 2 hierarchy in /proc/PID/cgroup."""
FILE_BYTES = 16384
CLOCK_FLAGS = os.O_RDONLY | os.O_CLOEXEC
CLOCK_BYTES = 64
"""Enough for the first row of cpu.stat."""
CLOCK_NUMBER = re.compile(rb"\b\d{1,20}\b")
MEMORY_ROWS = {
    V2: re.compile(rb"^(?:anon|shmem) (\d{1,20})$", re.MULTILINE),
    "memory": re.compile(rb"^total_(?:rss|shmem) (\d{1,20})$", re.MULTILINE),
}
"""Anonymous and shared memory in memory.stat, by hierarchy."""


def cgroup_mounts(procfs: str) -> dict[str, str]:
    """The first mount point of each cgroup hierarchy: `""` for version 2, else by controller.

    Raises OSError.
    """
    found: dict[str, str] = {}
    for hierarchy, point in cgroup_mount_points(procfs):
        found.setdefault(hierarchy, point)
    return found


def cgroup_mount_points(procfs: str) -> Iterator[tuple[str, str]]:
    """All mounts of cgroup hierarchies, keyed like `cgroup_mounts`, in order. Raises OSError."""
    for line in _lines(os.path.join(procfs, "self", "mountinfo")):
        left, _, right = line.partition(" - ")
        mount, file_system = left.split(" "), right.split(" ")
        if len(mount) < MOUNT_FIELDS or len(file_system) < FILE_SYSTEM_FIELDS:
            continue
        point = _unescaped(mount[4])
        if file_system[0] == "cgroup2":
            yield V2, point
        elif file_system[0] == "cgroup":
            for controller in file_system[2].split(","):
                yield controller, point


def cgroup_paths(procfs: str, pid: int | str) -> dict[str, str]:
    """The cgroup of a process in each hierarchy, keyed like `cgroup_mounts`. Raises OSError."""
    found = {}
    for line in _lines(os.path.join(procfs, str(pid), "cgroup")):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        for controller in controllers.split(",") if path else ():
            found[controller] = path
    return found


def _lines(path: str) -> list[str]:
    """Lines of a kernel file; names in it may contain any bytes."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [line for line in file.read().split("\n") if line]


def _unescaped(field: str) -> str:
    """Unescape a field of proc_pid_mountinfo(5): blanks and backslashes are in octal."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


class _CpuClock:
    """CPU time of one cgroup. Its file stays open, since opening costs as much as reading."""

    def __init__(self, directory: str, hierarchy: str) -> None:
        self._is_v2 = hierarchy == V2
        self._path = f"{directory}/{'cpu.stat' if self._is_v2 else 'cpuacct.usage'}"
        self._close: weakref.finalize[[int], _CpuClock] | None = None
        self._descriptor = -1
        self._text = b""
        self.last_us = 0
        """The last reading."""

    def read_us(self) -> int:
        """Microseconds since the cgroup was created. Raises OSError if it was removed.

        It is the last reading if the file has no number.
        """
        if self._close is None:
            self._descriptor = os.open(self._path, CLOCK_FLAGS)
            self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            text = os.pread(self._descriptor, CLOCK_BYTES, 0)
        except OSError:
            self._close()  # another cgroup may have the same path by now
            self._close = None
            self._text = b""
            raise
        if text == self._text:
            return self.last_us
        self._text = text
        number = CLOCK_NUMBER.search(text)
        if number is not None:
            time = int(number[0])
            self.last_us = time if self._is_v2 else time // NANOSECONDS_PER_MICROSECOND
        return self.last_us


class CgroupMeter:
    """CPU time and memory of one cgroup, or of several that do not contain each other.

    `at` has the path or paths in each hierarchy. Raises Unavailable if there is only the root.
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
        """Replace the measured cgroups; the CPU time of the previous ones stays in the sum.

        A cgroup that was not measured before counts from its creation.
        """
        own = {
            name: [path for path in ([paths] if isinstance(paths, str) else paths) if path != "/"]
            for name, paths in at.items()
            if name in mounted
        }
        hierarchy = V2 if own.get(V2) else "cpuacct"
        if not own.get(hierarchy):
            raise Unavailable(
                "the process is in the root cgroup, which is the whole machine; use scope tree, or "
                "start it in a cgroup of its own, for example with systemd-run --scope"
            )
        is_other = bool(self._clocks) and hierarchy != self._hierarchy
        before = {} if is_other else self._clocks
        clocks = {
            path: before.get(path) or _CpuClock(mounted[hierarchy] + path, hierarchy)
            for path in own[hierarchy]
        }
        if is_other:  # different clocks of the same CPU time
            self.gone_us = self.last_us - sum(clock.read_us() for clock in clocks.values())
        self.gone_us += sum(before[path].last_us for path in before.keys() - clocks.keys())
        self._hierarchy, self._clocks = hierarchy, clocks
        self._files = {
            name: [mounted[name] + path for path in paths] for name, paths in own.items()
        }
        path = own[hierarchy][0]
        self.path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        """Path of the cgroup, or of the first of several, as valid text."""

    def advance_us(self) -> int:
        """CPU time since the last call; 0 once the cgroup was removed."""
        try:
            now_us = self.cpu_us()
        except OSError:
            return 0
        used, self.last_us = max(0, now_us - self.last_us), now_us
        return used

    def cpu_us(self) -> int:
        """Microseconds since the cgroups were created. Raises OSError if all were removed."""
        total_us = removed = 0
        for clock in self._clocks.values():
            try:
                total_us += clock.read_us()
            except OSError:
                self.gone_us += clock.last_us
                clock.last_us = 0
                removed += 1
                if removed == len(self._clocks):
                    raise
        return total_us + self.gone_us

    def memory_bytes(self) -> int:
        """Anonymous and shared memory; 0 without memory accounting."""
        for hierarchy, rows in MEMORY_ROWS.items():
            found = list(self._read(hierarchy, "memory.stat"))
            if found:
                return sum(int(number) for text in found for number in rows.findall(text))
        return 0

    def containing_path(self, at: Mapping[str, str]) -> str:
        """The measured cgroup that contains a process with the paths `at`; "" for none."""
        inside = f"{at.get(self._hierarchy, '')}/"
        return next((path for path in self._clocks if inside.startswith(f"{path}/")), "")

    def has_processes(self) -> bool:
        """Whether it has a process; with version 2, descendants count too."""
        if self._hierarchy == V2:
            return any(b"populated 1" in text for text in self._read(V2, "cgroup.events"))
        return any(self._read("cpuacct", "cgroup.procs"))

    def _read(self, hierarchy: str, name: str) -> Iterator[bytes]:
        """Content of a file of each cgroup; cgroups without it are skipped."""
        for directory in self._files.get(hierarchy, ()):
            with suppress(OSError), open(f"{directory}/{name}", "rb", buffering=0) as file:
                yield file.read(FILE_BYTES)


class RunCgroups:
    """Meters of the open runs that own cgroups."""

    def __init__(self, procfs: str, run_registry: RunRegistry) -> None:
        self._procfs = procfs
        self._run_registry = run_registry
        self._meters: dict[RunKey, dict[str, CgroupMeter]] = {}
        """By run, and by a name that identifies the cgroup within the run."""
        self._memories: dict[RunKey, int] = {}
        self._ticks = 0
        self._clocks_us: dict[RunKey, int] = {}

    def meter(self, pid: int) -> CgroupMeter:
        """A meter for the cgroup of a process. Raises RequestRefused."""
        try:
            return CgroupMeter(cgroup_mounts(self._procfs), cgroup_paths(self._procfs, pid))
        except (OSError, Unavailable) as error:
            raise RequestRefused(409, f"scope cgroup is not available: {error}") from None

    def add(self, run: RunKey, meter: CgroupMeter, name: str = "") -> None:
        """Meter a run by this cgroup as well, unless it already has one of this name.

        A run from before a restart continues from its last stored clocks.
        """
        meters = self._meters.setdefault(run, {})
        if name not in meters:
            if run in self._clocks_us:
                meter.last_us = 0  # the stored clocks are subtracted in the next tick
            meters[name] = meter

    def has(self, run: RunKey, name: str = "") -> bool:
        """Whether the run is metered by a cgroup of this name."""
        return name in self._meters.get(run, ())

    def metered_runs(self) -> AbstractSet[RunKey]:
        """The runs whose CPU time and memory are those of cgroups."""
        return frozenset(self._meters)

    def keep_only(self, run: RunKey, names: Collection[str]) -> None:
        """Stop metering a run by cgroups of other names."""
        meters = self._meters.get(run, {})
        for name in meters.keys() - names:
            del meters[name]

    def remove(self, run: RunKey) -> None:
        """Stop metering a run that has ended."""
        self._meters.pop(run, None)
        self._memories.pop(run, None)

    def transfer_meters(self, old: RunKey, new: RunKey) -> None:
        """Move the meters of a run that was merged into another one."""
        self._meters.setdefault(new, {}).update(self._meters.pop(old, {}))
        self._memories.pop(old, None)
        if old in self._clocks_us:
            self._clocks_us[new] = self._clocks_us.pop(old) + self._clocks_us.get(new, 0)

    def restore_meters(self, runs: Iterable[RunInfo], clocks_us: dict[RunKey, int]) -> None:
        """Meter runs from before a restart, continuing from their stored clocks.

        Clocks that are used are removed from `clocks_us`.
        """
        for run in runs:
            if run.scope != "cgroup":
                continue
            if not run.lead_pid and run.key in clocks_us:  # a job, found again by its cgroup
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
        """Whether a run from before a restart, not found again yet, had used CPU time."""
        return self._clocks_us.get(run, 0) > 0

    def add_cpu_time(self, used_us: dict[RunKey, int]) -> None:
        """Add CPU time of the cgroups since the last call, without that of inner runs."""
        totals = dict.fromkeys(self._meters, 0)
        for run, meters in self._meters.items():
            for meter in meters.values():
                totals[run] += meter.advance_us()
        for run in totals.keys() & self._clocks_us.keys():
            totals[run] = max(0, totals[run] - self._clocks_us.pop(run))
        self._set_amounts(totals, used_us)

    def add_memory(self, memory_by_run: dict[RunKey, int]) -> None:
        """Add memory of the cgroups in bytes, without that of inner runs.

        Each call reads a fraction of the cgroups, and all new ones.
        """
        self._ticks += 1
        for place, (run, meters) in enumerate(self._meters.items(), self._ticks):
            if place % MEMORY_READ_TICKS == 0 or run not in self._memories:
                self._memories[run] = sum(meter.memory_bytes() for meter in meters.values())
        self._set_amounts(self._memories, memory_by_run)

    def clocks_us(self) -> dict[RunKey, int]:
        """The last clocks of each run's cgroups, without removed cgroups."""
        clocks_us = dict.fromkeys(self._meters, 0)
        for run, meters in self._meters.items():
            for meter in meters.values():
                clocks_us[run] += meter.last_us - meter.gone_us
        return clocks_us

    def has_processes(self, run: RunKey) -> bool:
        """Whether a cgroup of the run has processes."""
        return any(meter.has_processes() for meter in self._meters.get(run, {}).values())

    def run_of(self, pid: int) -> RunKey | None:
        """The run with the innermost cgroup that contains a process, or None."""
        if not self._meters:
            return None
        try:
            at = cgroup_paths(self._procfs, pid)
        except OSError:
            return None
        around = [
            (len(path), run)
            for run, meters in self._meters.items()
            for meter in meters.values()
            if (path := meter.containing_path(at))
        ]
        return max(around)[1] if around else None

    def _set_amounts(self, totals: Mapping[RunKey, int], amounts: dict[RunKey, int]) -> None:
        """Set the amounts of runs with a total, which includes all inner runs."""
        if not totals:
            return
        amounts.update(totals)
        inside: dict[RunKey, int] = {}
        for run in self._run_registry.innermost_first():
            within = inside.get(run.key, 0) if inside else 0
            if within and run.key in totals:
                amounts[run.key] = max(0, totals[run.key] - within)
            if run.enclosing is not None:
                total = amounts.get(run.key, 0) + within
                inside[run.enclosing] = inside.get(run.enclosing, 0) + total
