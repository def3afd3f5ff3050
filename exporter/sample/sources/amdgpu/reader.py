"""Reads one AMD GPU: energy, power, activity and users."""

import errno
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.clock import Clock
from exporter.model.readings import (
    NO_DRIVER_CALLS,
    Device,
    DriverCallStats,
    GpuActivity,
    GpuProcess,
    Partition,
)
from exporter.sample.counter_arithmetic import is_plausible_watts
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.sources.amdgpu.cards import has_known_counter, read_watts
from exporter.sample.sources.amdgpu.counter_check import CounterCheck, FirmwareClock
from exporter.sample.sources.amdgpu.gpu_metrics import (
    MAX_BYTES,
    PERCENT,
    GpuMetrics,
    PartitionBusy,
    UnknownRevision,
    decode_gpu_metrics,
)
from exporter.sample.sources.amdgpu.kfd import KfdUser, OccupancySampler
from exporter.sample.sources.drm_fdinfo import DrmUser, DrmUsers
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError, GpuValues, PartitionLayout
from exporter.sample.sources.gpu.pci import IDLE_READ_NS, is_kept_awake
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import SharedCall

POWER_SENSORS = ("power1_average", "power1_input")
"""Averaged and instantaneous power; which of them exists depends on the model."""
MULTIPROCESSOR_ENGINES = ("gfx", "compute")
"""Engines of fdinfo that run on the compute units; others copy, or code video."""
MAX_RECENT = 60
"""Readings between two polls of the users."""
MAX_DRIVER_AGE_NS = NANOSECONDS_PER_SECOND
"""Age above which the kernel's time of a read is not on our clock, as in a time namespace."""
ERROR_CLASSES = {
    errno.ENOENT: ErrorClass.DEVICE,
    errno.ENODEV: ErrorClass.DEVICE,
    errno.ENXIO: ErrorClass.DEVICE,
    errno.EACCES: ErrorClass.DENIED,
}
"""By errno; others are transient: a card that is being reset or suspended refuses with EPERM."""
NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)
TOPOLOGY_DENIED = (
    "the topology of KFD may not be read, so the processes of the GPU are not known; the kernel "
    "requires that the device cgroup of the exporter permits /dev/dri of the GPU"
)
OTHER_PIDS = (
    "the kernel lists the processes of AMD GPUs by the process ids of the host, which this "
    "container does not have; mount the host's /proc and set path.procfs, or use hostPID"
)


class DieHandle(NamedTuple):
    """A PCI device of a card."""

    address: str
    metrics_path: str
    hwmon: str
    """Directory of its sensors; "": none."""
    device_id: str
    """PCI id, as in sysfs."""
    partition: str = ""
    """Id of the partition that it is, if the card has two dies."""


class UserPlace(NamedTuple):
    """What the users of a node of KFD are on."""

    gpu_id: int
    partition: str
    """Id of the partition; "": the card has none."""
    compute_units: int


class CardHandle(NamedTuple):
    """What is needed to read a card."""

    dies: tuple[DieHandle, ...]
    """The first one measures energy and power of the card."""
    layout: PartitionLayout = PartitionLayout()
    places: tuple[UserPlace, ...] = ()
    why: str = ""
    """Why its users cannot be found; "": they can."""


class AmdUsers(NamedTuple):
    """Scans that all cards share."""

    queues: SharedCall[Mapping[int, frozenset[int]]]
    """Ids of processes by id of the GPU in KFD."""
    clients: SharedCall[DrmUsers]


class AmdReader:
    """Reads one card, by `GpuReader`."""

    def __init__(
        self, device: Device, clock: Clock, users: AmdUsers, sampler: OccupancySampler
    ) -> None:
        self._device = device
        self._clock = clock
        self._users = users
        self._sampler = sampler
        self._files: dict[str, ReusedFile] = {}
        self._check = CounterCheck()
        self._firmware = FirmwareClock()
        self._last = GpuValues()
        self._recent: deque[tuple[GpuMetrics, ...]] = deque(maxlen=MAX_RECENT)
        """Metrics of the dies, for the thread that reads the users."""

    def read_energy(self, handle: CardHandle, cap_watts: float) -> GpuValues:
        """Read counter and power. Raises GpuError if the file of the driver cannot be read.

        A card that is only awake because it is read is read less often, so that it can sleep.
        """
        before_ns = self._clock.boottime_ns()
        is_recent = bool(self._last.at_ns) and before_ns - self._last.at_ns < IDLE_READ_NS
        if is_recent and is_kept_awake(os.path.dirname(handle.dies[0].metrics_path)):
            return self._last
        metrics = tuple(self._metrics(die) for die in handle.dies)
        after_ns = self._clock.boottime_ns()
        self._recent.append(metrics)
        primary, die = metrics[0], handle.dies[0]
        watts = primary.power_watts or read_watts(die.hwmon, *POWER_SENSORS)
        at_ns = self._measured_ns(primary, before_ns, after_ns)
        is_plausible = watts is not None and is_plausible_watts(watts, cap_watts)
        self._check.add(at_ns, primary.energy_uj, watts if is_plausible else None)
        energy_uj = None if self._check.is_wrong else primary.energy_uj
        self._last = GpuValues(energy_uj, watts, at_ns, self._epoch(die))
        return self._last

    def read_users(self, handle: CardHandle) -> GpuActivity:
        """Return processes and partitions. Raises GpuError if the processes are not known."""
        if handle.why:
            raise GpuError(handle.why, ErrorClass.DENIED)
        recent = self._take_recent()
        occupancy = self._sampler.means()
        queues, clients = self._users.queues.result(), self._users.clients.result()
        compute = [
            (KfdUser(pid, place.gpu_id), place)
            for place in handle.places
            for pid in sorted(queues.get(place.gpu_id, ()))
        ]
        graphics = list(_graphics(handle, clients))
        active: dict[tuple[int, str], float] = defaultdict(float)
        for user, place in compute:
            active[user.pid, place.partition] += occupancy.get(user, 0.0) / place.compute_units
        for client, partition in graphics:
            active[client.pid, partition] += _engine_activity(client)
        users = Counter(partition for _, partition in active)
        self._sampler.watch(user for user, place in compute if users[place.partition] > 1)
        processes = tuple(
            GpuProcess(pid, partition, min(1.0, use)) for (pid, partition), use in active.items()
        )
        partitions = _partitions(handle, recent)
        is_measured = all(user in occupancy for user, _ in compute) and all(
            client.active for client, _ in graphics
        )
        return GpuActivity(
            self._device,
            self._clock.boottime_ns(),
            processes,
            partitions,
            handle.layout.slices,
            # Activities of 0 are not used, see `split_gpu`: it is enough that either is measured.
            coverage=float(is_measured or any(part.active is not None for part in partitions)),
            utilization=_mean(metrics[0].utilization for metrics in recent),
        )

    def forget(self) -> None:
        """Trust the counter again: the card may have been reset."""
        self._check, self._firmware = CounterCheck(), FirmwareClock()

    def release(self) -> None:
        """Close files, and end the thread that samples."""
        self._sampler.watch(())
        for file in self._files.values():
            file.close()

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return no statistics: there is no library."""
        return NO_DRIVER_CALLS

    def _metrics(self, die: DieHandle) -> GpuMetrics:
        """Read the metrics of a die; none if it has no such file, or of an unknown revision."""
        file = self._files.setdefault(die.metrics_path, ReusedFile(die.metrics_path))
        return read_metrics(file, die.hwmon, die.device_id)

    def _epoch(self, die: DieHandle) -> str:
        """Return the inode of the file, of which each binding of the driver makes a new one."""
        try:
            return str(os.stat(die.metrics_path).st_ino)
        except OSError:  # power only
            return ""

    def _measured_ns(self, metrics: GpuMetrics, before_ns: int, after_ns: int) -> int:
        """Return the time to which the values belong, CLOCK_BOOTTIME."""
        read_ns = metrics.driver_ns or after_ns
        if not before_ns - MAX_DRIVER_AGE_NS <= read_ns <= after_ns:
            read_ns = after_ns
        if metrics.firmware_ns is None:
            return read_ns
        return self._firmware.boottime_ns(metrics.firmware_ns, read_ns)

    def _take_recent(self) -> list[tuple[GpuMetrics, ...]]:
        recent = []
        while self._recent:
            recent.append(self._recent.popleft())
        return recent


def read_metrics(file: ReusedFile, hwmon: str, device_id: str) -> GpuMetrics:
    """Read and decode the metrics of a die, which wakes it; without a counter of unknown unit.

    Returns metrics without values, and the reason, if the model does not have the file or its
    revision is not known. Raises GpuError for other failures.
    """
    try:
        metrics = decode_gpu_metrics(file.read(MAX_BYTES))
    except UnknownRevision as error:
        return GpuMetrics("", why=str(error))
    except OSError as error:
        if error.errno in NOT_SUPPORTED or (error.errno == errno.ENOENT and os.path.isdir(hwmon)):
            return GpuMetrics("")
        error_class = ERROR_CLASSES.get(error.errno or 0, ErrorClass.TRANSIENT)
        raise GpuError(f"{file.path}: {error.strerror}", error_class) from error
    if has_known_counter(device_id, metrics.revision):
        return metrics
    return metrics._replace(energy_uj=None)


def _graphics(handle: CardHandle, clients: DrmUsers) -> Iterator[tuple[DrmUser, str]]:
    """Yield the clients of DRM on the card that have worked, with their partition."""
    partitions = {die.address: die.partition for die in handle.dies}
    for client in clients.users:
        if client.has_worked and client.pdev in partitions:
            yield client, partitions[client.pdev]


def _engine_activity(client: DrmUser) -> float:
    return sum(client.active.get(name, 0.0) for name in MULTIPROCESSOR_ENGINES)


def _partitions(
    handle: CardHandle, recent: Sequence[tuple[GpuMetrics, ...]]
) -> tuple[Partition, ...]:
    """Return the partitions with their mean activity."""
    return tuple(
        part._replace(active=_partition_activity(handle, number, recent))
        for number, part in enumerate(handle.layout.partitions)
    )


def _partition_activity(
    handle: CardHandle, number: int, recent: Sequence[tuple[GpuMetrics, ...]]
) -> float | None:
    """Return the mean activity of a partition: of a die, or as its metrics report."""
    if len(handle.dies) > 1:
        return _mean(metrics[number].utilization for metrics in recent)
    busy = [
        (metrics.accumulations, metrics.partitions[number])
        for (metrics,) in recent
        if number < len(metrics.partitions)
    ]
    if not busy:
        return None
    mean = _mean_accumulated(busy[0], busy[-1])
    return mean if mean is not None else _mean(each.mean for _, each in busy)


def _mean_accumulated(
    before: tuple[int | None, PartitionBusy], after: tuple[int | None, PartitionBusy]
) -> float | None:
    """Return the mean activity between two readings, by what was accumulated; None: not known."""
    (first, since), (last, until) = before, after
    if first is None or last is None or since.accumulated is None or until.accumulated is None:
        return None
    if last <= first:
        return None
    mean = (until.accumulated - since.accumulated) / (last - first) / PERCENT
    return mean if 0 <= mean <= 1 else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
