"""What /proc/cpuinfo says of the processors."""

import os
import re
from typing import NamedTuple

VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "HygonGenuine": "Hygon"}

# How the kernel's architectures count their processors (show_cpuinfo in arch/*/kernel).
TOTALS = ("# processors", "ncpus active", "cpus active")
"""Number of online processors in one row: s390; sparc; alpha."""
NUMBERED = re.compile(r"processor\s*(\d+)?\s*:\s*(?(1)|\d+\s*$)")
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
        if NUMBERED.match(line):
            threads += 1
        elif name == "physical id" and value.isdecimal():
            packages.add(int(value))
    total = next((first[name] for name in TOTALS if first.get(name, "").isdecimal()), "0")
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
