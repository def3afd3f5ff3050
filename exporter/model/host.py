"""Who is on the GPUs of a made-up host, by its description: processes, partitions, holdings."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from exporter import units
from exporter.model.curves import Curve
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


def seats(row: Mapping[str, Any], period: float) -> tuple[Seat, ...]:
    """The GPUs of one row of `workload`."""
    return tuple(_seat(gpu, row["starts"], row["ends"], period) for gpu in row.get("gpus", ()))


class Tenants:
    """The processes on the GPUs of a host at any time."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        period = self._period = float(document["period_seconds"])
        self._seats = [
            *(seat for row in document.get("workload", ()) for seat in seats(row, period)),
            *(
                _seat(row, row["starts"], row["ends"], period)
                for row in document.get("strangers", ())
            ),
        ]
        self._gpus = [row for row in document["devices"] if row["kind"] == Kind.GPU]
        self._looked = -LOOK_SECONDS

    def look(self, at_ns: int) -> tuple[Occupancy, ...]:
        """A look at every GPU, where the last one is long enough ago."""
        now = at_ns / units.NANOSECONDS_PER_SECOND
        if now - self._looked < LOOK_SECONDS:
            return ()
        before, self._looked = max(self._looked, now - LOOK_SECONDS), now
        return tuple(self._look(gpu, before, now, at_ns) for gpu in self._gpus)

    def _look(self, gpu: Mapping[str, Any], before: float, now: float, at_ns: int) -> Occupancy:
        device = Device(Kind.GPU, gpu["id"])
        phase = now % self._period
        here = [seat for seat in self._seats if seat.device == device and seat.is_taken(phase)]
        occupants = tuple(
            Occupant(seat.pid, seat.partition, _mean(seat.active, before, now))
            for seat in here
            if seat.pid is not None
        )
        mig = gpu.get("mig")
        if mig is None:
            busy = min(1.0, sum(occupant.active for occupant in occupants))
            return Occupancy(device, at_ns, occupants, coverage=1.0, utilization=busy)
        gpm = gpu.get("nvml", {}).get("gpm", False)
        partitions = tuple(
            Partition(
                instance["id"],
                instance["slices"]
                * instance.get("multiprocessors", 1)
                / instance.get("slices_multiprocessors", instance.get("multiprocessors", 1)),
                sum(o.active for o in occupants if o.partition == instance["id"]) if gpm else None,
            )
            for instance in mig["instances"]
        )
        return Occupancy(device, at_ns, occupants, partitions, mig["slices"], float(gpm))


def _seat(row: Mapping[str, Any], starts: float, ends: float, period: float) -> Seat:
    return Seat(
        Device(Kind.GPU, row["id"]),
        row.get("partition", ""),
        row.get("units", 1),
        row.get("units_of", 0),
        row.get("pid"),
        Curve(row.get("active", [[0, 0]]), period),
        starts,
        ends,
    )


def _mean(curve: Curve, begin: float, end: float) -> float:
    return curve.integral(begin, end) / (end - begin)
