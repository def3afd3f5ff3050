"""Parser of recorded hosts, and their GPU processes, partitions and holdings over time."""

import math
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate, pairwise
from reprlib import repr as brief
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from exporter import units
from exporter.model.readings import Device, DeviceKind, GpuActivity, GpuProcess, Partition
from exporter.model.runs import RunKey
from exporter.model.workload import GpuHolding

MAX_QUANTITY = 1e30
"""Products and sums of such numbers are finite."""


class HostFields:
    """Typed access to the fields of one JSON object of a recorded host.

    An invalid field raises ValueError with its path from the top of the document. A field with a
    `default` is optional.
    """

    def __init__(self, content: object, where: str = "") -> None:
        if not isinstance(content, dict):
            place = f"{where}: " if where else ""
            text = f"{place}expected an object, found {brief(content)}"
            raise ValueError(text)  # noqa: TRY004  as for every error in a recorded host
        self._content: dict[str, Any] = content
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def names(self) -> tuple[str, ...]:
        """Return the names of all fields, in order."""
        return tuple(self._content)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        value = self._content.get(key, default)
        if not isinstance(value, str):
            raise self.mistake(key, "text")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        """Return one of the strings `choices`."""
        value = self._content.get(key, default)
        if value not in list(choices):
            raise self.mistake(key, f"one of {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._content.get(key, default)
        if not isinstance(value, bool):
            raise self.mistake(key, "true or false")
        return value

    def positive(self, key: str) -> float:
        """Return a number above 0."""
        value = self._content.get(key)
        if not _is_quantity(value) or value == 0:
            raise self.mistake(key, "a number above 0")
        return float(value)

    def seconds(self, key: str, most: float) -> float:
        """Return a time from 0 to `most` seconds."""
        value = self._content.get(key)
        if not _is_quantity(value) or value > most:
            raise self.mistake(key, f"seconds from 0 to {most:g}")
        return float(value)

    def count(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """Return an integer of at least `least`."""
        value = self._content.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.mistake(key, f"a whole number from {least} on")
        if not least <= value <= MAX_QUANTITY:
            raise self.mistake(key, f"a whole number from {least} on")
        return value

    def curve(
        self,
        key: str,
        period_seconds: float,
        default: Sequence[Sequence[float]] | None = None,
        *,
        most: float = math.inf,
    ) -> "Curve":
        """Return a curve whose values are from 0 to `most`."""
        points = self._content.get(key, default)
        bound = "" if most == math.inf else f" or above {most:g}"
        if not isinstance(points, list | tuple) or not all(_is_point(it, most) for it in points):
            raise self.mistake(key, f"a list of [seconds, value], none below 0{bound}")
        try:
            return Curve([(time, value) for time, value in points], period_seconds)
        except ValueError as error:
            raise ValueError(f"{self.place(key)}: {error}") from None

    def texts(self, key: str) -> dict[str, str]:
        """Return an object of strings; empty if the field is absent."""
        value = self._content.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.mistake(key, "an object of texts")
        return value

    def part(self, key: str) -> "HostFields":
        """Return a nested object; empty if the field is absent."""
        return HostFields(self._content.get(key, {}), self.place(key))

    def rows(self, key: str) -> list["HostFields"]:
        """Return a list of objects; empty if the field is absent."""
        value = self._content.get(key, [])
        if not isinstance(value, list):
            raise self.mistake(key, "a list of objects")
        return [HostFields(item, f"{self.place(key)}[{index}]") for index, item in enumerate(value)]

    def place(self, key: str) -> str:
        """Return the path of a field, such as `devices[0].id`."""
        return f"{self._where}.{key}" if self._where else key

    def mistake(self, key: str, expected: str) -> ValueError:
        """Return the error for a field that is not `expected`."""
        found = brief(self._content.get(key)) if key in self else "nothing"
        return ValueError(f"{self.place(key)}: expected {expected}, found {found}")


def _is_point(point: Any, most: float) -> bool:
    is_pair = isinstance(point, list | tuple) and len(point) == 2
    return is_pair and all(map(_is_quantity, point)) and point[1] <= most


def _is_quantity(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= MAX_QUANTITY


class Curve:
    """A periodic, piecewise linear function of time through `points` of (seconds, value).

    The curve is linear from the last point to the first point of the next period. Two points at the
    same time are a step. Raises ValueError if there are no points, or if they are not in order
    within the period.
    """

    def __init__(self, points: Sequence[tuple[float, float]], period_seconds: float) -> None:
        if not points or period_seconds <= 0:
            raise ValueError("a curve needs at least one point and a period above 0 s")
        times = [0.0, *(time for time, _ in points), period_seconds]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ValueError(f"times must rise from 0 to the period, {period_seconds:g} s")
        edge = _edge(points, period_seconds)
        knots = [(0.0, edge), *points, (period_seconds, edge)]
        self._period = period_seconds
        self._times = [time for time, _ in knots]
        self._values = [value for _, value in knots]
        areas = ((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(knots))
        self._areas = list(accumulate(areas, initial=0.0))

    def at(self, seconds: float) -> float:
        """Return the value at a time; at a step, the value after it."""
        _, value = self._within(seconds % self._period)
        return value

    def integral(self, begin_seconds: float, end_seconds: float) -> float:
        """Return the integral, value times seconds, between two times."""
        return self._area(end_seconds) - self._area(begin_seconds)

    def _area(self, seconds: float) -> float:
        periods, rest = divmod(seconds, self._period)
        area, _ = self._within(rest)
        return periods * self._areas[-1] + area

    def _within(self, seconds: float) -> tuple[float, float]:
        """Return the integral from the period's start, and the value, at a time within a period."""
        index = min(bisect_right(self._times, seconds), len(self._times) - 1) - 1
        begin, value = self._times[index], self._values[index]
        span = self._times[index + 1] - begin
        elapsed = seconds - begin
        if span == 0:
            return self._areas[index], value
        slope = (self._values[index + 1] - value) / span
        now = value + slope * elapsed
        return self._areas[index] + elapsed * (value + now) / 2, now


def _edge(points: Sequence[tuple[float, float]], period_seconds: float) -> float:
    """Return the value at the boundary of two periods."""
    (first_time, first), (last_time, last) = points[0], points[-1]
    before = period_seconds - last_time
    span = before + first_time
    return last if span == 0 else last + (first - last) * before / span


POLL_SECONDS = 5.0
"""Interval at which the processes of a GPU are polled."""


class RecordedHolding(NamedTuple):
    """Part of a GPU that a run, or a process without a run, holds from `starts` to `ends`."""

    device: Device
    partition: str
    units: int
    units_of: int
    pid: int | None
    """None: held without a process."""
    active: Curve
    starts: float
    ends: float

    def is_active(self, phase: float) -> bool:
        """Whether it is held `phase` seconds after the start of the period."""
        return self.starts <= phase < self.ends

    def holding(self, run: RunKey, at_seconds: float, period: float) -> GpuHolding:
        """Return the holding of `run` in the period of `at_seconds`."""
        begin = at_seconds - at_seconds % period
        return GpuHolding(
            self.device,
            run,
            self.partition,
            self.units,
            self.units_of,
            since_ns=round((begin + self.starts) * units.NANOSECONDS_PER_SECOND),
            until_ns=round((begin + self.ends) * units.NANOSECONDS_PER_SECOND),
        )


class RecordedPartitioning(NamedTuple):
    """Partitioning of a GPU."""

    slices: int
    """0: not partitioned."""
    sizes: Mapping[str, float]
    """Slices by partition id."""
    has_activity: bool
    """Whether the GPU reports the activity of each partition."""


NOT_PARTITIONED = RecordedPartitioning(0, MappingProxyType({}), has_activity=False)


def recorded_partitionings(host: HostFields) -> dict[str, RecordedPartitioning]:
    """Return the partitioning of each GPU by its id. Raises ValueError with the path."""
    gpus = (row for row in host.rows("devices") if row.text("kind") == DeviceKind.GPU)
    return {gpu.text("id"): _layout(gpu) for gpu in gpus}


def active_period(row: HostFields, period: float) -> tuple[float, float]:
    """Return start and end of a row of `workload` or `strangers`. Raises ValueError."""
    starts, ends = row.seconds("starts", period), row.seconds("ends", period)
    if ends <= starts:
        raise row.mistake("ends", f"more than starts, {starts:g}")
    return starts, ends


def recorded_holdings(
    row: HostFields, period: float, gpus: Mapping[str, RecordedPartitioning]
) -> tuple[RecordedHolding, ...]:
    """Return the GPUs held by one row of `workload`. `gpus` are all GPUs. Raises ValueError."""
    return tuple(
        _holding(gpu, active_period(row, period), period, gpus) for gpu in row.rows("gpus")
    )


class RecordedGpuProcesses:
    """Processes on the GPUs of a recorded host."""

    def __init__(self, host: HostFields) -> None:
        """Parse the host. Raises ValueError with the path of an invalid field."""
        period = self._period = host.positive("period_seconds")
        self._gpus = recorded_partitionings(host)
        self._holdings = [
            *(
                holding
                for row in host.rows("workload")
                for holding in recorded_holdings(row, period, self._gpus)
            ),
            *(
                _holding(row, active_period(row, period), period, self._gpus)
                for row in host.rows("strangers")
            ),
        ]
        self._polled = -POLL_SECONDS

    def collect(self, at_ns: int) -> tuple[GpuActivity, ...]:
        """Return the activity of every GPU; empty before the polling interval has passed."""
        now = at_ns / units.NANOSECONDS_PER_SECOND
        if now - self._polled < POLL_SECONDS:
            return ()
        before, self._polled = max(self._polled, now - POLL_SECONDS), now
        return tuple(self._activity(name, before, now, at_ns) for name in self._gpus)

    def _activity(self, name: str, before: float, now: float, at_ns: int) -> GpuActivity:
        device, layout = Device(DeviceKind.GPU, name), self._gpus[name]
        phase = now % self._period
        gpu_processes = tuple(
            GpuProcess(holding.pid, holding.partition, _mean_value(holding.active, before, now))
            for holding in self._holdings
            if holding.device == device and holding.pid is not None and holding.is_active(phase)
        )
        if not layout.slices:
            busy = min(1.0, sum(process.active for process in gpu_processes))
            return GpuActivity(device, at_ns, gpu_processes, coverage=1.0, utilization=busy)
        partitions = tuple(
            Partition(
                partition,
                size,
                sum(process.active for process in gpu_processes if process.partition == partition)
                if layout.has_activity
                else None,
            )
            for partition, size in layout.sizes.items()
        )
        coverage = float(layout.has_activity)
        return GpuActivity(device, at_ns, gpu_processes, partitions, layout.slices, coverage)


def _layout(gpu: HostFields) -> RecordedPartitioning:
    if "mig" not in gpu:
        return NOT_PARTITIONED
    mig = gpu.part("mig")
    sizes = {}
    for row in mig.rows("instances"):
        own = row.count("multiprocessors", 1, least=1)
        of = row.count("slices_multiprocessors", own, least=own)
        sizes[row.text("id")] = row.count("slices", least=1) * own / of
    slices, used = mig.count("slices", least=1), round(sum(sizes.values()), 6)
    if used > slices:
        raise mig.mistake("slices", f"at least the slices of its instances, {used:g}")
    has_activity = mig.flag("has_activity", default=gpu.part("nvml").flag("gpm", default=False))
    return RecordedPartitioning(slices, sizes, has_activity)


def _holding(
    row: HostFields,
    times: tuple[float, float],
    period: float,
    gpus: Mapping[str, RecordedPartitioning],
) -> RecordedHolding:
    name = row.choice("id", gpus)
    units_of = row.count("units_of", 0)
    return RecordedHolding(
        Device(DeviceKind.GPU, name),
        row.choice("partition", ("", *gpus[name].sizes), ""),
        row.count("units", 1, least=1),
        units_of,
        row.count("pid", least=1) if "pid" in row else None,
        row.curve("active", period, [[0, 0]], most=1.0),
        *times,
    )


def _mean_value(curve: Curve, begin: float, end: float) -> float:
    return curve.integral(begin, end) / (end - begin)
