"""Processes of one GPU and their activity, and the activity of its MIG partitions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, GpuActivity, GpuProcess, Partition
from exporter.sample.sources.gpu.driver import ErrorClass
from exporter.sample.sources.nvml.calls import (
    INSUFFICIENT_SIZE,
    NOT_SUPPORTED,
    Capabilities,
    NvmlCalls,
    NvmlError,
    nvml_errors,
)
from exporter.units import MICROSECONDS_PER_SECOND

PERCENT = 100
ROUNDING = 1
"""Percent by which a mean may exceed 100 because of rounding."""
FIRST_WINDOW_US = 5 * MICROSECONDS_PER_SECOND
MAX_WINDOW_US = 60 * MICROSECONDS_PER_SECOND
"""Maximum time window of a query; after a longer pause, only the last seconds are queried."""
MAX_TRIES = 3
PROCESS_UTILIZATION = "nvmlDeviceGetProcessUtilization"
GPM = "GPM"
SM_UTILIZATION = 2
"""GPM metric: mean activity of the multiprocessors in percent."""


def ratio_from_percent(percent: float) -> float | None:
    """Convert a percentage of the driver to a ratio; return None if it is implausible.

    Drivers occasionally report 2,619 to 4,294,967,295 % (dcgm-exporter #418, DCGM #199).
    """
    return min(1.0, percent / PERCENT) if 0 <= percent <= PERCENT + ROUNDING else None


def retry_list(call: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """Fetch a list; retry if it grew after its size was queried. Raises NvmlError."""
    for _ in range(MAX_TRIES - 1):
        try:
            return call()
        except NvmlError as failure:
            if failure.code != INSUFFICIENT_SIZE:
                raise
    return call()


def mean_activity_by_pid(samples: Iterable[Any]) -> dict[int, float]:
    """Return the mean activity by pid, 0 to 1.

    The driver averages over the queried time window and returns one sample per process, with the
    timestamp of the last activity of that process (nvml.h; documented in nvtop #110 and go-nvml
    #51), so timestamps cannot serve as weights. If it returns several samples per process, samples
    in which a process was not active are missing and count as 0.
    """
    counts: dict[int, int] = {}
    sums: dict[int, float] = {}
    for sample in samples:
        counts[sample.pid] = counts.get(sample.pid, 0) + 1
        sums[sample.pid] = sums.get(sample.pid, 0.0) + (ratio_from_percent(sample.smUtil) or 0.0)
    most = max(counts.values(), default=1)
    return {pid: total / most for pid, total in sums.items()}


class ProcessActivity:
    """Mean activity of each process between two polls."""

    def __init__(self, calls: NvmlCalls, clock: Clock, can: Capabilities) -> None:
        self._calls = calls
        self._clock = clock
        self._can = can
        self._seen_us = 0

    def collect(self, handle: Any, now_ns: int) -> tuple[dict[int, float], float]:
        """Return the activity by pid, and the part of the time since the last poll that is known.

        Raises NvmlError.
        """
        since_us = self._seen_us
        requested_us = self._wall_us()
        if not requested_us - MAX_WINDOW_US <= since_us <= requested_us:
            since_us = requested_us - FIRST_WINDOW_US
        until_us, valid = requested_us, list[Any]()
        with self._can.optional(PROCESS_UTILIZATION, now_ns) as is_supported:
            if not is_supported:
                return {}, 0.0
            samples = retry_list(lambda: self._calls.call(PROCESS_UTILIZATION, handle, since_us))
            until_us = self._wall_us()
            # Drivers may return exited processes with arbitrary values.
            valid = [
                sample
                for sample in samples
                if since_us < sample.timeStamp <= until_us
                and ratio_from_percent(sample.smUtil) is not None
            ]
        self._seen_us = max((sample.timeStamp for sample in valid), default=until_us)
        if not valid:
            return {}, 0.0
        return mean_activity_by_pid(valid), (self._seen_us - since_us) / (until_us - since_us)

    def _wall_us(self) -> int:
        return round(self._clock.wall() * MICROSECONDS_PER_SECOND)


class InstanceActivity:
    """Mean activity of each MIG GPU instance between two polls; requires Hopper or later."""

    def __init__(self, calls: NvmlCalls, can: Capabilities) -> None:
        self._calls = calls
        self._can = can
        self._samples: dict[int, Any] = {}
        """Samples of the driver from the last poll, by GPU instance id."""

    def collect(self, handle: Any, numbers: set[int], now_ns: int) -> Mapping[int, float | None]:
        """Return the activity by GPU instance id, 0 to 1; None: not known. Raises NvmlError."""
        for gone in self._samples.keys() - numbers:
            self._free(self._samples.pop(gone))
        return {number: self._one(handle, number, now_ns) for number in numbers}

    def release_samples(self) -> None:
        """Free all samples, before the driver is shut down."""
        while self._samples:
            self._free(self._samples.popitem()[1])

    def _one(self, handle: Any, number: int, now_ns: int) -> float | None:
        with self._can.optional(GPM, now_ns) as is_supported:
            if not is_supported:
                return None
            if not self._calls.call("nvmlGpmQueryDeviceSupport", handle).isSupportedDevice:
                raise NvmlError("nvmlGpmQueryDeviceSupport", NOT_SUPPORTED)
            sample = self._calls.call("nvmlGpmSampleAlloc")
            before = self._samples.pop(number, None)
            try:
                self._calls.call("nvmlGpmMigSampleGet", handle, number, sample)
                self._samples[number] = sample
                return None if before is None else self._between(before, sample)
            finally:
                if before is not None:
                    self._free(before)
                if number not in self._samples:
                    self._free(sample)
        return None

    def _between(self, before: Any, sample: Any) -> float | None:
        wanted = self._calls.nvml.c_nvmlGpmMetricsGet_t()
        wanted.version = self._calls.nvml.NVML_GPM_METRICS_GET_VERSION
        wanted.numMetrics = 1
        wanted.sample1, wanted.sample2 = before, sample
        wanted.metrics[0].metricId = SM_UTILIZATION
        metric = self._calls.call("nvmlGpmMetricsGet", wanted).metrics[0]
        if metric.nvmlReturn:
            raise NvmlError("nvmlGpmMetricsGet", metric.nvmlReturn)
        return ratio_from_percent(metric.value)

    def _free(self, sample: Any) -> None:
        with self._can.optional("nvmlGpmSampleFree", 0):
            self._calls.call("nvmlGpmSampleFree", sample)


PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
MPS_CLIENTS = "nvmlDeviceGetMPSComputeRunningProcesses_v3"
DEVICE_UTILIZATION = "nvmlDeviceGetUtilizationRates"


class MigInstance(NamedTuple):
    """A MIG compute instance."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    slices: float
    """Its share of the slices of the GPU instance."""
    aliases: tuple[str, ...] = ()

    def partition(self, active: float | None = None) -> Partition:
        """Return it as a partition with this activity; None: not known."""
        instances = self.gpu_instance, self.compute_instance
        return Partition(self.uuid, self.slices, active, instances, self.aliases)


class MigLayout(NamedTuple):
    """MIG layout of a GPU. `slices` is 0 if MIG is disabled."""

    slices: int = 0
    instances: tuple[MigInstance, ...] = ()


class ListedProcess(NamedTuple):
    """A process in a list of the driver."""

    pid: int
    place: tuple[int, int]
    """Ids of GPU instance and compute instance; constant if MIG is disabled."""


class GpuProcessReader:
    """Reads the processes of one GPU and their activity."""

    def __init__(self, calls: NvmlCalls, clock: Clock, device: Device) -> None:
        self._calls = calls
        self._clock = clock
        self._device = device
        self._can = Capabilities()
        self._processes = ProcessActivity(calls, clock, self._can)
        self._instances = InstanceActivity(calls, self._can)

    def read(self, handle: Any, layout: MigLayout) -> GpuActivity:
        """Return the current processes, and their activity since the last poll.

        Raises NvmlError, also if the driver does not list processes: an unknown list must not be
        treated as an empty one.
        """
        now_ns = self._clock.boottime_ns()
        running = self._running(handle, now_ns)
        clients = self._clients(handle, now_ns)
        active: dict[int, float] = {}
        coverage = 0.0
        if not layout.slices:
            active, coverage = self._processes.collect(handle, now_ns)
        partitions = tuple(self._partitions(handle, layout, now_ns))
        if layout.slices:
            known = [part.active is not None for part in partitions]
            coverage = float(bool(known) and all(known))
        return GpuActivity(
            self._device,
            now_ns,
            _gpu_processes(running, clients, layout, active),
            partitions,
            layout.slices,
            coverage,
            self._utilization(handle, now_ns),
        )

    def forget(self) -> None:
        """Retry functions that the GPU has refused."""
        self._can.forget()

    def release_samples(self) -> None:
        """Free the samples of the driver."""
        self._instances.release_samples()

    def _running(self, handle: Any, now_ns: int) -> Sequence[ListedProcess]:
        if not self._can.has(PROCESSES, now_ns):
            raise NvmlError(PROCESSES, NOT_SUPPORTED)
        try:
            with nvml_errors(PROCESSES):
                processes = _read(retry_list(lambda: self._calls.call(PROCESSES, handle)))
        except NvmlError as failure:
            if failure.error_class is ErrorClass.EMPTY:
                return ()
            if failure.is_refusal:
                self._can.refused(PROCESSES, now_ns)
            raise
        self._can.works(PROCESSES)
        return processes

    def _clients(self, handle: Any, now_ns: int) -> Sequence[ListedProcess]:
        """Return the clients of an MPS server, if the driver lists them."""
        with self._can.optional(MPS_CLIENTS, now_ns) as is_supported:
            if is_supported:
                return _read(retry_list(lambda: self._calls.call(MPS_CLIENTS, handle)))
        return ()

    def _partitions(self, handle: Any, layout: MigLayout, now_ns: int) -> Iterator[Partition]:
        numbers = {instance.gpu_instance for instance in layout.instances}
        actives = self._instances.collect(handle, numbers, now_ns)
        for instance in layout.instances:
            yield instance.partition(actives[instance.gpu_instance])

    def _utilization(self, handle: Any, now_ns: int) -> float | None:
        with self._can.optional(DEVICE_UTILIZATION, now_ns) as is_supported:
            if is_supported:
                return ratio_from_percent(self._calls.call(DEVICE_UTILIZATION, handle).gpu)
        return None


def _gpu_processes(
    running: Sequence[ListedProcess],
    clients: Sequence[ListedProcess],
    layout: MigLayout,
    active: dict[int, float],
) -> tuple[GpuProcess, ...]:
    """Return every process once.

    If a partition has MPS clients, the other processes on it are their servers, to which the driver
    attributes the activity of the clients.
    """
    uuids = {(each.gpu_instance, each.compute_instance): each.uuid for each in layout.instances}
    served = {process.pid for process in clients}
    serving = {process.place for process in clients}
    return tuple(
        GpuProcess(
            process.pid,
            uuids.get(process.place, ""),
            active.get(process.pid, 0.0),
            is_proxy=process.place in serving and process.pid not in served,
        )
        for process in {process.pid: process for process in (*running, *clients)}.values()
    )


def _read(processes: Sequence[Any]) -> Sequence[ListedProcess]:
    """Convert a list of processes of the driver."""
    return [
        ListedProcess(each.pid, (each.gpuInstanceId, each.computeInstanceId)) for each in processes
    ]
