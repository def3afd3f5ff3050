"""Memory without a readable counter: energy from its size and the time the machine was awake."""

import os
import re

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceInfo, Kind, Method, Observation, Reading

NAME = "dram_estimate"


class DramEstimate:
    """A constant power per GB of `{procfs}/meminfo`, suspended time left out.

    The estimate is a counter since boot, so a later process goes on exactly where this one
    stopped. Raises Unavailable if the size cannot be read.
    """

    name = NAME

    def __init__(self, procfs: str, clock: Clock, boot_id: str, watts_per_gb: float) -> None:
        self._clock = clock
        gb = memory_bytes(procfs) / units.BYTES_PER_GB
        self._power_uw = round(watts_per_gb * gb * units.MICROWATTS_PER_WATT)
        # A counter of another power is another counter.
        self._epoch = f"{boot_id}/{self._power_uw}"
        self.infos = (
            DeviceInfo(
                device=Device(Kind.DRAM, "package-0-dram"),
                model=f"{gb:.1f} GB (assumed {watts_per_gb:.4g} W per GB)",
                vendor="",
                source=NAME,
                power_cap_watts=2 * watts_per_gb * gb,
                method=Method.ESTIMATED,
            ),
        )

    def read(self) -> Observation:
        """The estimated counter now."""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        counter_uj = self._power_uw * awake_ns // units.NANOSECONDS_PER_SECOND
        device = self.infos[0].device
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=(Reading(device, at_ns, self._epoch, counter_uj, awake_ns=awake_ns),),
        )

    def release(self) -> None:
        """Nothing is held."""


def memory_bytes(procfs: str) -> int:
    """MemTotal of `{procfs}/meminfo`. Raises Unavailable."""
    path = os.path.join(procfs, "meminfo")
    try:
        with open(path, encoding="ascii") as file:
            found = re.search(r"^MemTotal:\s+(\d+) kB$", file.read(), re.MULTILINE)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Unavailable(f"{path}: {why}; mount procfs and name it with --path.procfs") from None
    if found is None:
        raise Unavailable(f"{path}: does not say MemTotal; check --path.procfs")
    return int(found[1]) * units.BYTES_PER_KIB
