"""Processors without a readable counter: energy from how busy the kernel says they were."""

import os

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.cpu_clocks import parse_cpu_clocks
from exporter.model.readings import Device, DeviceInfo, Kind, Method, Observation, Reading
from exporter.sample.coefficients import CpuWatts
from exporter.sample.cpuinfo import CpuInfo
from exporter.sample.kept_file import KeptFile

NAME = "cpu_estimate"
US_PER_TICK = units.MICROSECONDS_PER_SECOND // os.sysconf("SC_CLK_TCK")
FIRST_LINE = 256
"""Bytes that hold the first line of stat on any machine."""


class CpuEstimate:
    """Linear from idle to full power in the busy time of `{procfs}/stat`.

    The estimate is a counter since boot and a function of the kernel's clocks alone, so a later
    process goes on exactly where this one stopped. Packages get equal parts of it, because the
    kernel's total does not say which one was busy. Raises Unavailable if the file cannot be read.
    """

    name = NAME

    def __init__(
        self, procfs: str, clock: Clock, boot_id: str, cpu: CpuInfo, watts: CpuWatts
    ) -> None:
        self._clock = clock
        self._stat = KeptFile(os.path.join(procfs, "stat"))
        self._idle_uw = round(watts.idle_per_thread * units.MICROWATTS_PER_WATT)
        self._full_uw = round(watts.full_per_thread * units.MICROWATTS_PER_WATT)
        self._counter_uj = 0
        packages = len(cpu.packages)
        # A counter made with other coefficients is another counter.
        self._epoch = f"{boot_id}/{self._idle_uw}-{self._full_uw}/{packages}"
        model = cpu.model or "unknown processor"
        self.infos = tuple(
            DeviceInfo(
                device=Device(Kind.CPU, f"package-{package}"),
                model=f"{model} (assumed {watts.idle_per_thread:.2f} to "
                f"{watts.full_per_thread:.2f} W per thread)",
                vendor=cpu.vendor,
                source=NAME,
                power_cap_watts=2 * watts.full_per_thread * cpu.threads / packages,
                method=Method.ESTIMATED,
            )
            for package in cpu.packages
        )
        why = self._advance()
        if why:
            raise Unavailable(f"{why}; mount procfs and name it with --path.procfs")

    def read(self) -> Observation:
        """The estimated counter of every package now."""
        began_ns = self._clock.monotonic_ns()
        why = self._advance()
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        counter_uj = None if why else self._counter_uj // len(self.infos)
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(
                Reading(info.device, at_ns, self._epoch, counter_uj, why=why, awake_ns=awake_ns)
                for info in self.infos
            ),
            cost_seconds=units.seconds(awake_ns - began_ns),
            error=why,
        )

    def release(self) -> None:
        """Close the file; a later read opens it again."""
        self._stat.close()

    def _advance(self) -> str:
        """Bring the counter up to date; why that failed, if it did."""
        try:
            clocks = parse_cpu_clocks(self._stat.read(FIRST_LINE), US_PER_TICK)
        except OSError as error:
            return f"{self._stat.path}: {error.strerror}"
        except ValueError as error:
            self._stat.close()
            return f"{self._stat.path}: {error}"
        above_idle_uw = self._full_uw - self._idle_uw
        energy_uw_us = self._idle_uw * clocks.total_us + above_idle_uw * clocks.busy_us
        # The kernel's iowait may step back.
        self._counter_uj = max(self._counter_uj, energy_uw_us // units.MICROSECONDS_PER_SECOND)
        return ""
