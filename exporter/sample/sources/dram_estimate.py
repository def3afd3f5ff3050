"""Collector `dram_estimate`: memory energy estimated from its size, without a counter."""

import os
import re

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method, Observation, Reading

NAME = "dram_estimate"
SIZE_REFRESH_NS = 30 * units.NANOSECONDS_PER_SECOND
"""Interval at which the size is read again; the memory of a virtual machine may change."""


class DramEstimateCollector:
    """Estimates a constant power per GB of `{procfs}/meminfo`, excluding time suspended.

    The estimate is a counter since boot, so that a later process continues exactly where this one
    stopped. Raises Unavailable if the size cannot be read at startup; later the last one is used.
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
        """Return the estimated counter; after a change of size, that of the new size as well."""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        readings = [self._reading(at_ns, awake_ns)]
        if awake_ns - self._sized_ns >= SIZE_REFRESH_NS:
            self._sized_ns = awake_ns
            before = self._epoch
            self._refresh_size()
            if self._epoch != before:
                readings.append(self._reading(at_ns, awake_ns))
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(readings),
        )

    def release(self) -> None:
        """Do nothing; no resources are held."""

    def _reading(self, at_ns: int, awake_ns: int) -> Reading:
        counter_uj = self._power_uw * awake_ns // units.NANOSECONDS_PER_SECOND
        return Reading(self.infos[0].device, at_ns, self._epoch, counter_uj, awake_ns=awake_ns)

    def _refresh_size(self) -> None:
        try:
            size = memory_bytes(self._procfs)
        except Unavailable:
            return
        self._resize(size)

    def _resize(self, size: int) -> None:
        gb = size / units.BYTES_PER_GB
        # After memory was removed, the last energy of the larger size is still to be checked.
        self._most_gb = max(self._most_gb, gb)
        self._power_uw = round(self._watts_per_gb * gb * units.MICROWATTS_PER_WATT)
        # Counters computed with another power are not comparable.
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
    """Return MemTotal of `{procfs}/meminfo` in bytes. Raises Unavailable."""
    path = os.path.join(procfs, "meminfo")
    try:
        with open(path, encoding="ascii") as file:
            match = re.search(r"^MemTotal:\s+(\d{1,18}) kB$", file.read(), re.MULTILINE)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Unavailable(
            f"{path}: {why}; mount procfs and set --path.procfs to the mount point"
        ) from None
    if match is None:
        raise Unavailable(f"{path}: has no line MemTotal; check --path.procfs")
    return int(match[1]) * units.BYTES_PER_KIB
