"""What CodeCarbon writes of the machine and the program, as this process sees them."""

import os
import platform
from typing import Any

from exporter.report.forms.codecarbon import Facts, Row

BYTES_PER_GIB = 1 << 30
PERCENT = 100.0


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


class Utilization:
    """Mean utilization of the machine's processors and memory since this was made."""

    def __init__(self) -> None:
        self._cpu_times: Any = None
        self._samples, self._percents, self._bytes = 0, 0.0, 0
        self.columns()

    def columns(self) -> Row:
        """CodeCarbon's columns; none where nothing can be read.

        The processors' utilization is exact over the whole time, by the kernel's counters. Memory
        is averaged over what was in use at the beginning and at each call.
        """
        try:
            cpu_times, memory = _sample()
        except OSError:  # /proc is hidden
            return {}
        self._cpu_times = self._cpu_times or cpu_times
        self._samples += 1
        self._percents += memory.percent
        self._bytes += memory.used
        return {
            "cpu_utilization_percent": busy_percent(self._cpu_times, cpu_times),
            "ram_utilization_percent": self._percents / self._samples,
            "ram_used_gb": self._bytes / self._samples / BYTES_PER_GIB,
        }


def _sample() -> tuple[Any, Any]:
    import psutil  # 20 ms that only a tracker need spend

    return psutil.cpu_times(), psutil.virtual_memory()


def busy_percent(before: Any, after: Any) -> float | str:
    """Share of processor time between two `psutil.cpu_times` that was not idle; "" if none passed.

    Time of guests is in that of `user` already; waiting for a disk is idle, as in
    `psutil.cpu_percent`.
    """
    spent = {name: max(0.0, getattr(after, name) - getattr(before, name)) for name in after._fields}
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    idle = spent["idle"] + spent.get("iowait", 0.0)
    return PERCENT * (total - idle) / total if total > 0 else ""
