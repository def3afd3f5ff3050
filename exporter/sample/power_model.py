"""How much power is assumed where no counter can be read, and who says so."""

import os
import re
from typing import NamedTuple

from exporter.data.processors import rows_of
from exporter.errors import ConfigError

VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}

# How the kernel's architectures count their processors (show_cpuinfo in arch/*/kernel).
PROCESSOR_COUNT_ROWS = ("# processors", "ncpus active", "cpus active")
"""Number of online processors in one row: s390; sparc; alpha."""
PROCESSOR_ROW = re.compile(r"processor\s*(\d+)?\s*:\s*(?(1)|\d+\s*$)")
"""One row per online processor: `processor : 0`, on s390 `processor 0: version = FF, ...`."""


class CpuInfo(NamedTuple):
    """The processors of one machine; all packages are taken to be of one model."""

    model: str = ""
    """Empty where the kernel does not say, as on most ARM machines."""
    vendor: str = ""
    packages: tuple[int, ...] = (0,)
    """Physical ids, in order; package 0 alone where the kernel does not say."""
    threads: int = 1
    """Hardware threads online, over all packages."""
    threads_per_package: int = 1
    """Those of one package, offline ones left out as the kernel does."""
    guest: bool = False
    """Whether this is a virtual machine."""


def read_cpuinfo(procfs: str) -> CpuInfo:
    """What `{procfs}/cpuinfo` says; the defaults where it cannot be read."""
    try:
        with open(os.path.join(procfs, "cpuinfo"), encoding="utf-8", errors="replace") as file:
            return parse_cpuinfo(file.read())
    except OSError:
        return CpuInfo()


def parse_cpuinfo(text: str) -> CpuInfo:
    """The fields of a cpuinfo text that matter here."""
    first: dict[str, str] = {}
    packages: set[int] = set()
    threads = 0
    for line in text.splitlines():
        name, _, value = line.partition(":")
        name, value = name.strip(), value.strip()
        first.setdefault(name, value)
        if PROCESSOR_ROW.match(line):
            threads += 1
        elif name == "physical id" and value.isdecimal():
            packages.add(int(value))
    total = next(
        (first[name] for name in PROCESSOR_COUNT_ROWS if first.get(name, "").isdecimal()), "0"
    )
    threads = int(total) or max(1, threads)
    packages = packages or {0}
    siblings = first.get("siblings", "")
    per_package = int(siblings) if siblings.isdecimal() else threads // len(packages)
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
"""Averages over the server processors that one large provider runs, per virtual CPU, at 0 % and
100 % load, which its authors took from SPECpower results; see Appendix I of that page."""

DRAM_WATTS_PER_GB = 0.3725
DRAM_SOURCE = "Lannelongue et al. 2021, Green Algorithms: https://doi.org/10.1002/advs.202100707"
"""Power of memory by its size, in use or not."""


class CpuPowerModel(NamedTuple):
    """Power of one hardware thread, from idle to fully busy."""

    idle_per_thread: float
    full_per_thread: float
    basis: str
    """Where the numbers come from, for people."""


class DramPowerModel(NamedTuple):
    """Power of memory."""

    per_gb: float
    basis: str
    """Where the number comes from, for people."""


def cpu_power_model(
    cpu: CpuInfo, idle_per_thread: float | None = None, full_per_thread: float | None = None
) -> CpuPowerModel:
    """What is assumed of `cpu`; watts that are given go before any table.

    A known part on bare metal draws its TDP, spread over its hardware threads, when fully busy,
    and the same fraction of that when idle as the cited pair. A guest sees the name of a part of
    which it holds a slice, so guests and unknown parts take the cited pair as it stands.
    Raises ConfigError if idle is above full.
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
            f"{full:g} (watts); set sample.cpu_full_watts_per_thread beside it as well"
        )
    return CpuPowerModel(idle, full, basis)


def dram_power_model(per_gb: float | None = None) -> DramPowerModel:
    """What is assumed of memory; a number that is given goes before the cited one."""
    if per_gb is None:
        return DramPowerModel(DRAM_WATTS_PER_GB, DRAM_SOURCE)
    return DramPowerModel(per_gb, "configured")


def tdp_watts(model: str) -> float | None:
    """Thermal design power of one package of `model`, or None if the table lacks it."""
    row = next(rows_of(model), None)
    return None if row is None else float(row["tdp_watts"])
