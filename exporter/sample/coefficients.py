"""How much power is assumed where no counter can be read, and who says so."""

from typing import NamedTuple

from exporter.data.processors import rows_of
from exporter.errors import ConfigError
from exporter.sample.cpuinfo import CpuInfo

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


class CpuWatts(NamedTuple):
    """Power of one hardware thread, from idle to fully busy."""

    idle_per_thread: float
    full_per_thread: float
    basis: str
    """Where the numbers come from, for people."""


class DramWatts(NamedTuple):
    """Power of memory."""

    per_gb: float
    basis: str
    """Where the number comes from, for people."""


def cpu_watts(
    cpu: CpuInfo, idle_per_thread: float | None = None, full_per_thread: float | None = None
) -> CpuWatts:
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
    return CpuWatts(idle, full, basis)


def dram_watts(per_gb: float | None = None) -> DramWatts:
    """What is assumed of memory; a number that is given goes before the cited one."""
    if per_gb is None:
        return DramWatts(DRAM_WATTS_PER_GB, DRAM_SOURCE)
    return DramWatts(per_gb, "configured")


def tdp_watts(model: str) -> float | None:
    """Thermal design power of one package of `model`, or None if the table lacks it."""
    row = next(rows_of(model), None)
    return None if row is None else float(row["tdp_watts"])
