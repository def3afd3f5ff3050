"""Collector `cpu_estimate`: processor energy estimated from CPU time, without a counter."""

import os

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.cpu_clocks import count_cpus, parse_proc_stat
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method, Observation, Reading
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.power_model import CpuInfo, CpuPowerModel

NAME = "cpu_estimate"
US_PER_TICK = units.MICROSECONDS_PER_SECOND // os.sysconf("SC_CLK_TCK")
FIRST_LINE_BYTES = 256
"""Enough for the first line of stat on any machine."""
WHOLE_FILE_BYTES = 1 << 20
"""Enough for the rows of all CPUs on any machine."""
RATE_TOLERANCE = 1.25
"""Tolerance for irregular updates of CPU times; the bound of plausible power allows more."""
STUCK_NS = 20 * units.NANOSECONDS_PER_SECOND
"""Time without a change after which the CPU times are considered not to be those of the host."""


class CpuEstimateCollector:
    """Estimates power linearly from idle to full load by the busy time in `{procfs}/stat`.

    The estimate is a counter since boot that depends only on the CPU times of the kernel, so that a
    later process continues exactly where this one stopped. Packages get equal parts of it, because
    the total of the kernel does not show which one was busy. CPUs may be added at runtime: the
    bound of plausible power follows their number. Raises Unavailable if the file cannot be read.
    """

    name = NAME

    def __init__(
        self, procfs: str, clock: Clock, boot_id: str, cpu: CpuInfo, watts: CpuPowerModel
    ) -> None:
        self._clock = clock
        self._stat = ReusedFile(os.path.join(procfs, "stat"))
        self._idle_uw = round(watts.idle_per_thread * units.MICROWATTS_PER_WATT)
        self._full_uw = round(watts.full_per_thread * units.MICROWATTS_PER_WATT)
        self._full_watts = watts.full_per_thread
        self._counter_uj = 0
        self._total_us = -1
        self._moved_ns = 0
        self._threads: float = cpu.threads
        self._rate = 0.0
        """CPU time per elapsed time in the last interval, which approximates the number of CPUs."""
        packages = len(cpu.packages)
        # Counters computed with other coefficients are not comparable.
        self._epoch = f"{boot_id}/{self._idle_uw}-{self._full_uw}/{packages}"
        model = cpu.model or "unknown processor"
        self.infos = tuple(
            DeviceInfo(
                device=Device(DeviceKind.CPU, f"package-{package}"),
                model=f"{model} (assumed {watts.idle_per_thread:.2f} to "
                f"{watts.full_per_thread:.2f} W per thread)",
                vendor=cpu.vendor,
                source=NAME,
                power_cap_watts=self._cap_watts(packages),
                method=Method.ESTIMATED,
            )
            for package in cpu.packages
        )
        why = self._advance()
        if why:
            raise Unavailable(f"{why}; mount procfs and set --path.procfs to the mount point")

    def read(self) -> Observation:
        """Return the estimated counter of every package."""
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
        """Close the file; a later read reopens it."""
        self._stat.close()

    def _advance(self) -> str:
        """Update the counter; return an error, or ""."""
        awake_ns = self._clock.monotonic_ns()
        try:
            clocks = parse_proc_stat(self._stat.read(FIRST_LINE_BYTES), US_PER_TICK)
            self._follow_threads(clocks.total_us, awake_ns)
        except OSError as error:
            return f"{self._stat.path}: {error.strerror}"
        except ValueError as error:
            self._stat.close()
            return f"{self._stat.path}: {error}"
        if awake_ns - self._moved_ns >= STUCK_NS:
            return (
                f"{self._stat.path}: the CPU times have not changed for "
                f"{units.seconds(awake_ns - self._moved_ns):.0f} s, so no energy can be estimated; "
                "mount the procfs of the host and set --path.procfs to the mount point"
            )
        above_idle_uw = self._full_uw - self._idle_uw
        energy_uw_us = self._idle_uw * clocks.total_us + above_idle_uw * clocks.busy_us
        counter_uj = energy_uw_us // units.MICROSECONDS_PER_SECOND
        # Idle and iowait may decrease slightly and temporarily. If a CPU goes offline, many kernels
        # drop its idle time; the counter must then restart instead of waiting to be passed.
        if self._counter_uj - counter_uj > self._idle_uw * self._threads:
            self._counter_uj = counter_uj
        self._counter_uj = max(self._counter_uj, counter_uj)
        return ""

    def _follow_threads(self, total_us: int, awake_ns: int) -> None:
        """Raise the bound of plausible power if more CPU time passes than the known CPUs have.

        The rows of the online CPUs give their number. If there are none, two consecutive intervals
        must agree, because the CPU times may also jump once.
        """
        before_us, before_ns = self._total_us, self._moved_ns
        if total_us == before_us:
            return
        self._total_us, self._moved_ns = total_us, awake_ns
        if before_us < 0 or awake_ns <= before_ns:
            return
        before_rate = self._rate
        self._rate = (
            (total_us - before_us) * units.NANOSECONDS_PER_MICROSECOND / (awake_ns - before_ns)
        )
        if self._rate <= self._threads * RATE_TOLERANCE:
            return
        counted = count_cpus(self._stat.read(WHOLE_FILE_BYTES))
        threads = counted or min(before_rate, self._rate)
        if threads > self._threads:
            self._threads = threads
            cap_watts = self._cap_watts(len(self.infos))
            self.infos = tuple(info._replace(power_cap_watts=cap_watts) for info in self.infos)

    def _cap_watts(self, packages: int) -> float:
        return 2 * self._full_watts * self._threads / packages


def read_busy_us(procfs: str) -> int:
    """Return the busy CPU time since boot over all CPUs. Raises OSError or ValueError."""
    with open(os.path.join(procfs, "stat"), "rb", buffering=0) as file:
        return parse_proc_stat(file.read(FIRST_LINE_BYTES), US_PER_TICK).busy_us
