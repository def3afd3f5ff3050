"""Memory without a readable counter: energy from its size and the time the machine was awake."""

import os
import re

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method, Observation, Reading

NAME = "dram_estimate"
SIZE_REFRESH_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How often the size is read again: memory may be added to and taken from a virtual machine."""


class DramEstimateCollector:
    """A constant power per GB of `{procfs}/meminfo`, suspended time left out.

    The estimate is a counter since boot, so a later process goes on exactly where this one
    stopped. Raises Unavailable if the size cannot be read at first; later the last one is used.
    """

    name = NAME

    def __init__(self, procfs: str, clock: Clock, boot_id: str, watts_per_gb: float) -> None:
        self._procfs = procfs
        self._clock = clock
        self._boot_id = boot_id
        self._watts_per_gb = watts_per_gb
        self._sized_ns = clock.monotonic_ns()
        self._most_gb = 0.0
        self._resize(memory_bytes(procfs))

    def read(self) -> Observation:
        """The estimated counter now, up to which the size before holds, and then the new one's."""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        readings = [self._reading(at_ns, awake_ns)]
        if awake_ns - self._sized_ns >= SIZE_REFRESH_NS:
            self._sized_ns = awake_ns
            before = self._epoch
            self._look_at_size()
            if self._epoch != before:
                readings.append(self._reading(at_ns, awake_ns))
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(readings),
        )

    def release(self) -> None:
        """Nothing is held."""

    def _reading(self, at_ns: int, awake_ns: int) -> Reading:
        counter_uj = self._power_uw * awake_ns // units.NANOSECONDS_PER_SECOND
        return Reading(self.infos[0].device, at_ns, self._epoch, counter_uj, awake_ns=awake_ns)

    def _look_at_size(self) -> None:
        try:
            size = memory_bytes(self._procfs)
        except Unavailable:
            return
        self._resize(size)

    def _resize(self, size: int) -> None:
        gb = size / units.BYTES_PER_GB
        # The last energy of more memory is still to be judged when some is taken away.
        self._most_gb = max(self._most_gb, gb)
        self._power_uw = round(self._watts_per_gb * gb * units.MICROWATTS_PER_WATT)
        # A counter of another power is another counter.
        self._epoch = f"{self._boot_id}/{self._power_uw}"
        self.infos = (
            DeviceInfo(
                device=Device(DeviceKind.DRAM, "package-0-dram"),
                model=f"{gb:.1f} GB (assumed {self._watts_per_gb:.4g} W per GB)",
                vendor="",
                source=NAME,
                power_cap_watts=2 * self._watts_per_gb * self._most_gb,
                method=Method.ESTIMATED,
            ),
        )


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
