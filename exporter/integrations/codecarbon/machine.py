"""What CodeCarbon writes of the machine and the program, as this process sees them."""

import os
import platform

from exporter.report.forms.codecarbon import Facts

BYTES_PER_GIB = 1 << 30


def facts(procfs: str = "/proc") -> Facts:
    """What can be known without asking anybody."""
    return Facts(
        os=platform.platform(),
        python_version=platform.python_version(),
        cpu_count=os.cpu_count() or "",
        cpu_model=_cpu_model(procfs),
        ram_total_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / BYTES_PER_GIB,
    )


def _cpu_model(procfs: str) -> str:
    """Empty where the kernel does not say, as on most ARM machines."""
    try:
        with open(os.path.join(procfs, "cpuinfo"), encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
            return next(names, "").strip()
    except OSError:
        return ""
