"""Who is on one card: its processes, how active each is, and its partitions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, Occupancy, Occupant, Partition
from exporter.sample.sources.nvml.capabilities import Capabilities
from exporter.sample.sources.nvml.codes import INSUFFICIENT_SIZE, NOT_SUPPORTED, Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure

PERCENT = 100
MICROSECONDS = 1_000_000
SAMPLE_SECONDS = 1.0
"""Most time that one sample of the driver speaks for."""
FIRST_WINDOW_SECONDS = 5.0
TRIES = 3
NO_INSTANCE = 0xFFFFFFFF
SM_UTILIZATION = 2
"""Metric of GPM: mean activity of the multiprocessors in percent."""


class Instance(NamedTuple):
    """One MIG compute instance, as the layout has it."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    slices: float
    """Its part of the GPU instance's slices."""


class Layout(NamedTuple):
    """How a card is divided. `slices` is 0 where it is not."""

    slices: int = 0
    instances: tuple[Instance, ...] = ()


class Tenants:
    """Looks at the processes of one card."""

    def __init__(self, driver: Driver, clock: Clock, device: Device) -> None:
        self.driver = driver
        self._clock = clock
        self._device = device
        self._can = Capabilities()
        self._seen_us = 0
        self._samples: dict[int, Any] = {}
        """The last sample of each GPU instance."""

    def look(self, handle: Any, layout: Layout) -> Occupancy:
        """Who is there now, and what each did since the last look. Raises Failure."""
        now_ns = self._clock.boottime_ns()
        running = self._list("nvmlDeviceGetComputeRunningProcesses_v3", handle, now_ns)
        clients = self._list("nvmlDeviceGetMPSComputeRunningProcesses_v3", handle, now_ns)
        active, coverage = self._activity(handle, now_ns) if not layout.slices else ({}, 0.0)
        places = {(i.gpu_instance, i.compute_instance): i.uuid for i in layout.instances}
        served = {client.pid for client in clients}
        occupants = {
            process.pid: Occupant(
                process.pid,
                places.get((process.gpuInstanceId, process.computeInstanceId), ""),
                active.get(process.pid, 0.0),
                # With MPS the other process is the server; the driver shows its work as its own.
                serves=bool(served) and process.pid not in served,
            )
            for process in (*running, *clients)
        }
        partitions = tuple(self._partitions(handle, layout, now_ns))
        known = bool(partitions) and all(part.active is not None for part in partitions)
        return Occupancy(
            self._device,
            now_ns,
            tuple(occupants.values()),
            partitions,
            layout.slices,
            float(known) if layout.slices else coverage,
            self._utilization(handle, now_ns),
        )

    def _list(self, name: str, handle: Any, now_ns: int) -> Sequence[Any]:
        with self._optional(name, now_ns) as is_worth:
            if is_worth:
                return self._retried(lambda: self.driver.call(name, handle))
        return ()

    def _activity(self, handle: Any, now_ns: int) -> tuple[dict[int, float], float]:
        """Mean activity by pid since the last look, and the part of that time that is covered."""
        name = "nvmlDeviceGetProcessUtilization"
        until_us = round(self._clock.wall() * MICROSECONDS)
        since_us = max(self._seen_us, until_us - round(FIRST_WINDOW_SECONDS * MICROSECONDS))
        samples: Sequence[Any] = ()
        with self._optional(name, now_ns) as is_worth:
            if not is_worth:
                return {}, 0.0
            samples = self._retried(lambda: self.driver.call(name, handle, since_us))
        if not samples:
            self._seen_us = until_us
            return {}, 0.0
        return self._means(samples, since_us, until_us)

    def _means(
        self, samples: Sequence[Any], since_us: int, until_us: int
    ) -> tuple[dict[int, float], float]:
        weights: dict[int, int] = {}
        before = since_us
        for at in sorted({sample.timeStamp for sample in samples}):
            weights[at] = min(max(0, at - before), round(SAMPLE_SECONDS * MICROSECONDS))
            before = at
        self._seen_us = before
        covered = sum(weights.values())
        if not covered:
            return {}, 0.0
        means: dict[int, float] = {}
        for sample in samples:
            part = weights[sample.timeStamp] / covered * sample.smUtil / PERCENT
            means[sample.pid] = means.get(sample.pid, 0.0) + part
        return means, min(1.0, covered / max(1, until_us - since_us))

    def _partitions(self, handle: Any, layout: Layout, now_ns: int) -> Iterator[Partition]:
        actives = {
            number: self._instance_activity(handle, number, now_ns)
            for number in {instance.gpu_instance for instance in layout.instances}
        }
        for gone in self._samples.keys() - actives.keys():
            self._free(self._samples.pop(gone))
        for instance in layout.instances:
            yield Partition(instance.uuid, instance.slices, actives[instance.gpu_instance])

    def _instance_activity(self, handle: Any, number: int, now_ns: int) -> float | None:
        """Mean activity of a GPU instance since the last look; None where the chip has no GPM."""
        with self._optional("GPM", now_ns) as is_worth:
            if not is_worth:
                return None
            if not self.driver.call("nvmlGpmQueryDeviceSupport", handle).isSupportedDevice:
                raise Failure("nvmlGpmQueryDeviceSupport", NOT_SUPPORTED)
            sample = self.driver.call("nvmlGpmSampleAlloc")
            before = self._samples.pop(number, None)
            try:
                self.driver.call("nvmlGpmMigSampleGet", handle, number, sample)
                self._samples[number] = sample
                return None if before is None else self._gpm(before, sample)
            finally:
                if before is not None:
                    self._free(before)
        return None

    def _gpm(self, before: Any, sample: Any) -> float | None:
        wanted = self.driver.nvml.c_nvmlGpmMetricsGet_t()
        wanted.version = self.driver.nvml.NVML_GPM_METRICS_GET_VERSION
        wanted.numMetrics = 1
        wanted.sample1, wanted.sample2 = before, sample
        wanted.metrics[0].metricId = SM_UTILIZATION
        metric = self.driver.call("nvmlGpmMetricsGet", wanted).metrics[0]
        return None if metric.nvmlReturn else float(metric.value) / PERCENT

    def _utilization(self, handle: Any, now_ns: int) -> float | None:
        name = "nvmlDeviceGetUtilizationRates"
        with self._optional(name, now_ns) as is_worth:
            if is_worth:
                return float(self.driver.call(name, handle).gpu) / PERCENT
        return None

    def _free(self, sample: Any) -> None:
        with self._optional("nvmlGpmSampleFree", 0):
            self.driver.call("nvmlGpmSampleFree", sample)

    @contextmanager
    def _optional(self, what: str, now_ns: int) -> Iterator[bool]:
        """Whether to try; what the card cannot do, or has nothing to say of, is no failure."""
        try:
            yield self._can.has(what, now_ns)
        except Failure as failure:
            if failure.reaction is Reaction.CAPABILITY:
                self._can.refused(what, now_ns)
            elif failure.reaction not in (Reaction.EMPTY, Reaction.TRANSIENT):
                raise
        else:
            if self._can.has(what, now_ns):
                self._can.works(what)

    def _retried(self, call: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """The list, tried again where a process was born between its size and itself."""
        for _ in range(TRIES - 1):
            try:
                return call()
            except Failure as failure:
                if failure.code != INSUFFICIENT_SIZE:
                    raise
        return call()
