"""Power models of processors and memory without a readable counter, with their sources."""

import os
import re
from typing import NamedTuple

from exporter.data.processors import rows_of
from exporter.errors import ConfigError

VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}

# Formats of the number of processors by architecture (show_cpuinfo in arch/*/kernel).
PROCESSOR_COUNT_ROWS = ("# processors", "ncpus active", "cpus active")
"""Rows with the number of online processors: s390; sparc; alpha."""
NUMBER = re.compile("[0-9]{1,9}")
PROCESSOR_ROW = re.compile(r"processor\s*(\d+)?\s*:\s*(?(1)|\d+\s*$)")
"""One row per online processor: `processor : 0`, on s390 `processor 0: version = FF, ...`."""


class CpuInfo(NamedTuple):
    """Processors of one machine; all packages are assumed to be of one model."""

    model: str = ""
    """Empty if not reported, as on most ARM machines."""
    vendor: str = ""
    packages: tuple[int, ...] = (0,)
    """Physical ids, in order; only package 0 if not reported."""
    threads: int = 1
    """Hardware threads online, over all packages."""
    threads_per_package: int = 1
    """Online hardware threads of one package."""
    guest: bool = False
    """Whether this is a virtual machine."""


def read_cpuinfo(procfs: str) -> CpuInfo:
    """Read `{procfs}/cpuinfo`; return the defaults if it cannot be read."""
    try:
        with open(os.path.join(procfs, "cpuinfo"), encoding="utf-8", errors="replace") as file:
            return parse_cpuinfo(file.read())
    except OSError:
        return CpuInfo()


def parse_cpuinfo(text: str) -> CpuInfo:
    """Parse the text of /proc/cpuinfo."""
    first: dict[str, str] = {}
    packages: set[int] = set()
    threads = 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name, value = name.strip(), value.strip()
        first.setdefault(name, value)
        if PROCESSOR_ROW.match(line):
            threads += 1
        elif name == "physical id" and NUMBER.fullmatch(value):
            packages.add(int(value))
    total = next(
        (first[name] for name in PROCESSOR_COUNT_ROWS if NUMBER.fullmatch(first.get(name, ""))), "0"
    )
    threads = int(total) or max(1, threads)
    packages = packages or {0}
    siblings = first.get("siblings", "")
    per_package = int(siblings) if NUMBER.fullmatch(siblings) else threads // len(packages)
    vendor = first.get("vendor_id", "")
    return CpuInfo(
        model=first.get("model name", ""),
        vendor=VENDORS.get(vendor, vendor),
        packages=tuple(sorted(packages)),
        threads=threads,
        threads_per_package=max(1, per_package),
        guest="hypervisor" in first.get("flags", "").split(),
    )


GUEST_IDLE_WATTS_PER_THREAD = 0.74
GUEST_FULL_WATTS_PER_THREAD = 3.5
GUEST_SOURCE = (
    "Cloud Carbon Footprint, AWS average: https://www.cloudcarbonfootprint.org/docs/methodology/"
)
"""Average power per virtual CPU of the server processors of one large provider at 0 % and 100 %
load, derived by its authors from SPECpower results; see Appendix I of that page."""

DRAM_WATTS_PER_GB = 0.3725
DRAM_SOURCE = "Lannelongue et al. 2021, Green Algorithms: https://doi.org/10.1002/advs.202100707"
"""Power of memory per GB installed, whether in use or not."""


class CpuPowerModel(NamedTuple):
    """Power of one hardware thread in watts, idle and at full load."""

    idle_per_thread: float
    full_per_thread: float
    basis: str
    """Human-readable source of the values."""


class DramPowerModel(NamedTuple):
    """Power of memory in watts per GB."""

    per_gb: float
    basis: str
    """Human-readable source of the value."""


def cpu_power_model(
    cpu: CpuInfo, idle_per_thread: float | None = None, full_per_thread: float | None = None
) -> CpuPowerModel:
    """Return the power model of `cpu`; configured watts take precedence over the tables.

    On bare metal, a known processor model draws its TDP, divided by its hardware threads, at full
    load, and when idle the same fraction of that as the published average. A guest has only a part
    of the processor that it sees, so guests and unknown models use the published average.
    Raises ConfigError if idle power is above full power.
    """
    tdp = None if cpu.guest else tdp_watts(cpu.model)
    if tdp is None:
        full, basis = GUEST_FULL_WATTS_PER_THREAD, GUEST_SOURCE
    else:
        full = tdp / cpu.threads_per_package
        basis = f"TDP of {tdp:g} W over {cpu.threads_per_package} threads"
    if idle_per_thread is not None or full_per_thread is not None:
        basis = f"configured; else {basis}"
    full = full if full_per_thread is None else full_per_thread
    idle = full * GUEST_IDLE_WATTS_PER_THREAD / GUEST_FULL_WATTS_PER_THREAD
    idle = idle if idle_per_thread is None else idle_per_thread
    if idle > full:
        raise ConfigError(
            f"sample.cpu_idle_watts_per_thread: {idle:g} is above the power at full load, "
            f"{full:g} (watts); set sample.cpu_full_watts_per_thread as well"
        )
    return CpuPowerModel(idle, full, basis)


def dram_power_model(per_gb: float | None = None) -> DramPowerModel:
    """Return the power model of memory; a configured value takes precedence."""
    if per_gb is None:
        return DramPowerModel(DRAM_WATTS_PER_GB, DRAM_SOURCE)
    return DramPowerModel(per_gb, "configured")


def tdp_watts(model: str) -> float | None:
    """Return the thermal design power of one package in watts; None if it is not in the table."""
    row = next(rows_of(model), None)
    return None if row is None else float(row["tdp_watts"])
