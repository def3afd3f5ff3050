"""How active the processes of a card and its MIG instances are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from exporter.clock import Clock
from exporter.sample.sources.nvml.capabilities import Capabilities
from exporter.sample.sources.nvml.codes import INSUFFICIENT_SIZE, NOT_SUPPORTED
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.units import MICROSECONDS_PER_SECOND

PERCENT = 100
ROUNDING = 1
"""Percent above all that a mean may show."""
FIRST_WINDOW_US = 5 * MICROSECONDS_PER_SECOND
LONGEST_WINDOW_US = 60 * MICROSECONDS_PER_SECOND
"""As long as looks can be apart; a longer time, as after a pause, is not asked about."""
TRIES = 3
UTILIZATION = "nvmlDeviceGetProcessUtilization"
GPM = "GPM"
SM_UTILIZATION = 2
"""Metric of GPM: mean activity of the multiprocessors in percent."""


def ratio(percent: float) -> float | None:
    """A percentage of the driver as a ratio; None: it is no percentage.

    Drivers have shown 2,619 to 4,294,967,295 % now and then (dcgm-exporter #418, DCGM #199).
    """
    return min(1.0, percent / PERCENT) if 0 <= percent <= PERCENT + ROUNDING else None


def retried(call: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """A list, tried again where a process was born between its size and itself. Raises Failure."""
    for _ in range(TRIES - 1):
        try:
            return call()
        except Failure as failure:
            if failure.code != INSUFFICIENT_SIZE:
                raise
    return call()


def means(samples: Iterable[Any]) -> dict[int, float]:
    """Mean activity by pid, 0 to 1.

    The driver averages over the time asked about and gives one sample per process, stamped when
    that process was last active (nvml.h; recorded in nvtop #110 and go-nvml #51), so the stamps
    say nothing about weights. Where it gives several per process, those in which a process was
    not active are left out.
    """
    counts: dict[int, int] = {}
    sums: dict[int, float] = {}
    for sample in samples:
        counts[sample.pid] = counts.get(sample.pid, 0) + 1
        sums[sample.pid] = sums.get(sample.pid, 0.0) + (ratio(sample.smUtil) or 0.0)
    most = max(counts.values(), default=1)
    return {pid: total / most for pid, total in sums.items()}


class ProcessActivity:
    """Of each process, from one look to the next."""

    def __init__(self, driver: Driver, clock: Clock, can: Capabilities) -> None:
        self._driver = driver
        self._clock = clock
        self._can = can
        self._seen_us = 0

    def look(self, handle: Any, now_ns: int) -> tuple[dict[int, float], float]:
        """Activity by pid, and the part of the time since the last look that is known.

        Raises Failure.
        """
        since_us = self._seen_us
        asked_us = self._wall_us()
        if not asked_us - LONGEST_WINDOW_US <= since_us <= asked_us:
            since_us = asked_us - FIRST_WINDOW_US
        until_us, sound = asked_us, list[Any]()
        with self._can.optional(UTILIZATION, now_ns) as is_worth:
            if not is_worth:
                return {}, 0.0
            samples = retried(lambda: self._driver.call(UTILIZATION, handle, since_us))
            until_us = self._wall_us()
            # Drivers have shown processes that are long gone, with any number in each place.
            sound = [
                sample
                for sample in samples
                if since_us < sample.timeStamp <= until_us and ratio(sample.smUtil) is not None
            ]
        self._seen_us = max((sample.timeStamp for sample in sound), default=until_us)
        if not sound:
            return {}, 0.0
        return means(sound), (self._seen_us - since_us) / (until_us - since_us)

    def _wall_us(self) -> int:
        return round(self._clock.wall() * MICROSECONDS_PER_SECOND)


class InstanceActivity:
    """Of each MIG GPU instance, from one look to the next; only Hopper and later know it."""

    def __init__(self, driver: Driver, can: Capabilities) -> None:
        self._driver = driver
        self._can = can
        self._samples: dict[int, Any] = {}
        """The driver's, taken at the last look, by number of the instance."""

    def look(self, handle: Any, numbers: set[int], now_ns: int) -> Mapping[int, float | None]:
        """Activity by number of the instance, 0 to 1; None: not known. Raises Failure."""
        for gone in self._samples.keys() - numbers:
            self._free(self._samples.pop(gone))
        return {number: self._one(handle, number, now_ns) for number in numbers}

    def let_go(self) -> None:
        """Give the samples back to the driver, which is about to be shut down."""
        while self._samples:
            self._free(self._samples.popitem()[1])

    def _one(self, handle: Any, number: int, now_ns: int) -> float | None:
        with self._can.optional(GPM, now_ns) as is_worth:
            if not is_worth:
                return None
            if not self._driver.call("nvmlGpmQueryDeviceSupport", handle).isSupportedDevice:
                raise Failure("nvmlGpmQueryDeviceSupport", NOT_SUPPORTED)
            sample = self._driver.call("nvmlGpmSampleAlloc")
            before = self._samples.pop(number, None)
            try:
                self._driver.call("nvmlGpmMigSampleGet", handle, number, sample)
                self._samples[number] = sample
                return None if before is None else self._between(before, sample)
            finally:
                if before is not None:
                    self._free(before)
                if number not in self._samples:
                    self._free(sample)
        return None

    def _between(self, before: Any, sample: Any) -> float | None:
        wanted = self._driver.nvml.c_nvmlGpmMetricsGet_t()
        wanted.version = self._driver.nvml.NVML_GPM_METRICS_GET_VERSION
        wanted.numMetrics = 1
        wanted.sample1, wanted.sample2 = before, sample
        wanted.metrics[0].metricId = SM_UTILIZATION
        metric = self._driver.call("nvmlGpmMetricsGet", wanted).metrics[0]
        if metric.nvmlReturn:
            raise Failure("nvmlGpmMetricsGet", metric.nvmlReturn)
        return ratio(metric.value)

    def _free(self, sample: Any) -> None:
        with self._can.optional("nvmlGpmSampleFree", 0):
            self._driver.call("nvmlGpmSampleFree", sample)
