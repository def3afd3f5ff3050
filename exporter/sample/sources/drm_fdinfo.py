"""Activity of processes on GPUs by the DRM subsystem, in `/proc/PID/fdinfo`.

Format: Documentation/gpu/drm-usage-stats.rst of Linux. A file that is opened once is a *client*;
copies of its descriptor, in the same process or in children, show the same client.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter.clock import Clock
from exporter.sample.kernel_files import parse_number
from exporter.units import NANOSECONDS_PER_SECOND

ENGINE, CYCLES, TOTAL_CYCLES, CAPACITY = (
    "drm-engine-",
    "drm-cycles-",
    "drm-total-cycles-",
    "drm-engine-capacity-",
)
MAX_BYTES = 16_384
MIN_RESCAN_NS = 5 * NANOSECONDS_PER_SECOND
MAX_RESCAN_NS = 60 * NANOSECONDS_PER_SECOND
"""Interval at which the descriptors of a process are listed: it doubles up to the maximum, because
programs open a GPU soon after their start or never."""
NO_ENGINES: Mapping[str, float] = MappingProxyType({})


class EngineTime(NamedTuple):
    """Time for which a client has used an engine, since it was opened."""

    busy: int
    """Nanoseconds, or cycles if there is a `total`."""
    total: int | None = None
    """Cycles that the engine has counted; None: `busy` is in nanoseconds."""
    capacity: int = 1
    """Number of identical engines of this name, which `busy` is the sum of."""


class DrmClient(NamedTuple):
    """A client, as one of its descriptors shows it."""

    pdev: str
    """PCI address of the GPU."""
    id: str
    """Unique among the clients of a GPU."""
    driver: str
    engines: Mapping[str, EngineTime]
    """By name; without those that the client has not used yet, if the driver omits them."""


class DrmUser(NamedTuple):
    """Activity of one client between two polls."""

    pid: int
    """The process that had it first; one of the lowest pids if several did."""
    pdev: str
    driver: str
    has_worked: bool
    """Whether any of its engines has been busy since it was opened."""
    active: Mapping[str, float]
    """Mean activity by engine since the previous poll, 0 to 1; empty: not known yet."""


class DrmUsers(NamedTuple):
    """Result of a poll."""

    at_ns: int
    """CLOCK_BOOTTIME."""
    users: tuple[DrmUser, ...]
    hidden: int
    """Processes whose descriptors may not be read: those of other users, without
    CAP_SYS_PTRACE."""


def parse_fdinfo(text: str) -> DrmClient | None:
    """Parse a file of `/proc/PID/fdinfo`; None if it is not of a client of a PCI device."""
    values = dict(_entries(text))
    if "drm-client-id" not in values or "drm-pdev" not in values:
        return None
    return DrmClient(
        values["drm-pdev"].lower(),
        values["drm-client-id"],
        values.get("drm-driver", ""),
        dict(_engines(values)),
    )


def _entries(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator and key.startswith("drm-"):
            yield key, value.strip()


def _engines(values: Mapping[str, str]) -> Iterator[tuple[str, EngineTime]]:
    for key, value in values.items():
        if key.startswith(CYCLES):
            name = key.removeprefix(CYCLES)
            total = _number(values.get(TOTAL_CYCLES + name, ""))
        elif key.startswith(ENGINE) and not key.startswith(CAPACITY):
            name, total = key.removeprefix(ENGINE), None
            if CYCLES + name in values:  # a driver may report both
                continue
        else:
            continue
        busy = _number(value)
        if busy is not None and not (key.startswith(CYCLES) and total is None):
            yield name, EngineTime(busy, total, _number(values.get(CAPACITY + name, "")) or 1)


def _number(value: str) -> int | None:
    """Return the number at the beginning, as in "1234 ns"."""
    return parse_number(value.partition(" ")[0])


class _Known(NamedTuple):
    """A client at the previous poll."""

    pid: int
    at_ns: int
    engines: Mapping[str, EngineTime]


class _Process(NamedTuple):
    """A process, and when its descriptors are to be listed again."""

    scan_ns: int
    wait_ns: int
    fds: tuple[str, ...]
    """Descriptors of GPUs."""
    is_hidden: bool = False


class DrmFdinfoReader:
    """Finds the clients of GPUs among all processes, and measures their activity.

    The descriptors of a process are listed when it is new and then at growing intervals, and only
    files of known clients are read in every poll. For one thread.
    """

    def __init__(
        self,
        procfs: str,
        clock: Clock,
        devices: str = "/dev/dri/",
        is_wanted: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`devices`: prefix of the paths of the device files.

        `is_wanted`: whether descriptors of the device file with this name are read in this poll. xe
        wakes a suspended card when the file of a descriptor is read (`show_run_ticks` in
        `xe_drm_client.c`), and programs keep the files of all cards open, used or not.
        """
        self._procfs = procfs
        self._devices = devices
        self._is_wanted = is_wanted
        self._clock = clock
        self._processes: dict[int, _Process] = {}
        self._known: dict[tuple[str, str], _Known] = {}
        """By PCI address and id of the client."""

    def poll(self) -> DrmUsers:
        """Return the clients of all GPUs, each once. Raises OSError if procfs cannot be listed."""
        now_ns = self._clock.boottime_ns()
        pids = sorted(int(name) for name in os.listdir(self._procfs) if name.isdigit())
        self._processes = {pid: self._scanned(pid, now_ns) for pid in pids}
        found: dict[tuple[str, str], tuple[int, DrmClient]] = {}
        for pid, process in self._processes.items():
            for client in self._clients(pid, process.fds):
                key = client.pdev, client.id
                known = self._known.get(key)
                if key not in found or (known is not None and known.pid == pid):
                    found[key] = pid, client
        users = tuple(self._user(key, pid, client, now_ns) for key, (pid, client) in found.items())
        self._known = {key: known for key, known in self._known.items() if key in found}
        hidden = sum(process.is_hidden for process in self._processes.values())
        return DrmUsers(now_ns, users, hidden)

    def _scanned(self, pid: int, now_ns: int) -> _Process:
        known = self._processes.get(pid)
        if known is not None and now_ns < known.scan_ns:
            return known
        wait_ns = min(2 * known.wait_ns, MAX_RESCAN_NS) if known is not None else MIN_RESCAN_NS
        try:
            fds = tuple(self._gpu_fds(pid))
        except PermissionError:
            return _Process(now_ns + MAX_RESCAN_NS, wait_ns, (), is_hidden=True)
        except OSError:  # it has exited
            fds = ()
        return _Process(now_ns + wait_ns, wait_ns, fds)

    def _gpu_fds(self, pid: int) -> Iterator[str]:
        for name in os.listdir(f"{self._procfs}/{pid}/fd"):
            if self._device_node(pid, name):
                yield name

    def _device_node(self, pid: int, fd: str) -> str:
        """Return the name of the device file of a descriptor; "": of none, or it was closed."""
        try:
            target = os.readlink(f"{self._procfs}/{pid}/fd/{fd}")
        except OSError:
            return ""
        return os.path.basename(target) if target.startswith(self._devices) else ""

    def _clients(self, pid: int, fds: Iterable[str]) -> Iterator[DrmClient]:
        for name in fds:
            # It may have been opened anew since it was listed.
            node = self._device_node(pid, name)
            if not node or not self._is_wanted(node):
                continue
            try:
                fd = os.open(f"{self._procfs}/{pid}/fdinfo/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                text = os.read(fd, MAX_BYTES).decode("ascii", "replace")
            except OSError:
                continue
            finally:
                os.close(fd)
            client = parse_fdinfo(text)
            if client is not None:
                yield client

    def _user(self, key: tuple[str, str], pid: int, client: DrmClient, now_ns: int) -> DrmUser:
        known = self._known.get(key)
        engines = _monotonic(client.engines, known.engines if known is not None else {})
        self._known[key] = _Known(pid, now_ns, engines)
        active = NO_ENGINES
        if known is not None and now_ns > known.at_ns:
            active = {
                name: _activity(known.engines.get(name), time, now_ns - known.at_ns)
                for name, time in engines.items()
            }
        has_worked = any(time.busy for time in engines.values())
        return DrmUser(pid, client.pdev, client.driver, has_worked, active)


def _monotonic(
    engines: Mapping[str, EngineTime], known: Mapping[str, EngineTime]
) -> dict[str, EngineTime]:
    """Return the times, each not before the one that is known: drivers may report less again."""
    return {
        name: known[name] if name in known and time.busy < known[name].busy else time
        for name, time in engines.items()
    }


def _activity(before: EngineTime | None, after: EngineTime, elapsed_ns: int) -> float:
    """Return the mean activity of an engine; one that was not listed before had not worked."""
    if after.total is None:
        available = elapsed_ns
    elif before is None or before.total is None:
        return 0.0
    else:
        available = after.total - before.total
    busy = after.busy - (before.busy if before is not None else 0)
    return min(1.0, busy / (available * after.capacity)) if available > 0 else 0.0
