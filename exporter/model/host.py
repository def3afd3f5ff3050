"""Who is on the GPUs of a made-up host, by its description: processes, partitions, holdings."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter import units
from exporter.model.curves import Curve
from exporter.model.fields import Fields
from exporter.model.readings import Device, Kind, Occupancy, Occupant, Partition
from exporter.model.runs import RunKey
from exporter.model.workload import Holding

LOOK_SECONDS = 5.0
"""How often the processes of a GPU are looked at."""


class Seat(NamedTuple):
    """What one run, or a process of nobody, has of one GPU from `starts` to `ends`."""

    device: Device
    partition: str
    units: int
    units_of: int
    pid: int | None
    """None: it is held without a process."""
    active: Curve
    starts: float
    ends: float

    def is_taken(self, phase: float) -> bool:
        """Whether it is there so many seconds after the beginning of the period."""
        return self.starts <= phase < self.ends

    def holding(self, run: RunKey, at_seconds: float, period: float) -> Holding:
        """What `run` holds by it in the period of `at_seconds`."""
        begin = at_seconds - at_seconds % period
        return Holding(
            self.device,
            run,
            self.partition,
            self.units,
            self.units_of,
            since_ns=round((begin + self.starts) * units.NANOSECONDS_PER_SECOND),
            until_ns=round((begin + self.ends) * units.NANOSECONDS_PER_SECOND),
        )


class Layout(NamedTuple):
    """How a GPU is divided."""

    slices: int
    """0: it is not."""
    sizes: Mapping[str, float]
    """The slices of each partition, by its id."""
    has_activity: bool
    """Whether the chip tells the activity of each."""


UNDIVIDED = Layout(0, MappingProxyType({}), has_activity=False)


def layouts(host: Fields) -> dict[str, Layout]:
    """Each GPU of a host by its id. Raises ValueError naming the place."""
    gpus = (row for row in host.rows("devices") if row.text("kind") == Kind.GPU)
    return {gpu.text("id"): _layout(gpu) for gpu in gpus}


def spell(row: Fields, period: float) -> tuple[float, float]:
    """When a row of `workload` or `strangers` begins and ends. Raises ValueError naming it."""
    starts, ends = row.seconds("starts", period), row.seconds("ends", period)
    if ends <= starts:
        raise row.mistake("ends", f"more than starts, {starts:g}")
    return starts, ends


def seats(row: Fields, period: float, gpus: Mapping[str, Layout]) -> tuple[Seat, ...]:
    """The GPUs of one row of `workload`; `gpus` are all there are. Raises ValueError naming it."""
    return tuple(_seat(gpu, spell(row, period), period, gpus) for gpu in row.rows("gpus"))


class Tenants:
    """The processes on the GPUs of a host at any time."""

    def __init__(self, host: Fields) -> None:
        """Raises ValueError naming the place of a mistake."""
        period = self._period = host.positive("period_seconds")
        self._gpus = layouts(host)
        self._seats = [
            *(seat for row in host.rows("workload") for seat in seats(row, period, self._gpus)),
            *(_seat(row, spell(row, period), period, self._gpus) for row in host.rows("strangers")),
        ]
        self._looked = -LOOK_SECONDS

    def look(self, at_ns: int) -> tuple[Occupancy, ...]:
        """A look at every GPU, where the last one is long enough ago."""
        now = at_ns / units.NANOSECONDS_PER_SECOND
        if now - self._looked < LOOK_SECONDS:
            return ()
        before, self._looked = max(self._looked, now - LOOK_SECONDS), now
        return tuple(self._look(name, before, now, at_ns) for name in self._gpus)

    def _look(self, name: str, before: float, now: float, at_ns: int) -> Occupancy:
        device, layout = Device(Kind.GPU, name), self._gpus[name]
        phase = now % self._period
        occupants = tuple(
            Occupant(seat.pid, seat.partition, _mean(seat.active, before, now))
            for seat in self._seats
            if seat.device == device and seat.pid is not None and seat.is_taken(phase)
        )
        if not layout.slices:
            busy = min(1.0, sum(occupant.active for occupant in occupants))
            return Occupancy(device, at_ns, occupants, coverage=1.0, utilization=busy)
        partitions = tuple(
            Partition(
                partition,
                size,
                sum(occupant.active for occupant in occupants if occupant.partition == partition)
                if layout.has_activity
                else None,
            )
            for partition, size in layout.sizes.items()
        )
        coverage = float(layout.has_activity)
        return Occupancy(device, at_ns, occupants, partitions, layout.slices, coverage)


def _layout(gpu: Fields) -> Layout:
    if "mig" not in gpu:
        return UNDIVIDED
    mig = gpu.part("mig")
    sizes = {}
    for row in mig.rows("instances"):
        own = row.count("multiprocessors", 1, least=1)
        of = row.count("slices_multiprocessors", own, least=own)
        sizes[row.text("id")] = row.count("slices", least=1) * own / of
    slices, used = mig.count("slices", least=1), round(sum(sizes.values()), 6)
    if used > slices:
        raise mig.mistake("slices", f"no less than its instances have, {used:g}")
    return Layout(slices, sizes, gpu.part("nvml").flag("gpm", default=False))


def _seat(
    row: Fields, times: tuple[float, float], period: float, gpus: Mapping[str, Layout]
) -> Seat:
    name = row.choice("id", gpus)
    units_of = row.count("units_of", 0)
    return Seat(
        Device(Kind.GPU, name),
        row.choice("partition", ("", *gpus[name].sizes), ""),
        row.count("units", 1, least=1),
        units_of,
        row.count("pid", least=1) if "pid" in row else None,
        row.curve("active", period, [[0, 0]], most=1.0),
        *times,
    )


def _mean(curve: Curve, begin: float, end: float) -> float:
    return curve.integral(begin, end) / (end - begin)
