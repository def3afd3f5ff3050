"""attribute -> convert: what runs used, and their shares of an interval."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from exporter.model.readings import Device
from exporter.model.runs import RunKey


class UnattributedReason(StrEnum):
    """Why an energy is charged to no run."""

    IDLE = "idle"
    OTHER = "other"
    UNALLOCATED = "unallocated"
    UNKNOWN_PROCESS = "unknown_process"
    RESTART = "restart"


AttributionTarget: TypeAlias = RunKey | UnattributedReason
"""Every microjoule is booked on exactly one party."""


class SplitMethod(StrEnum):
    """How a share of a device's energy was found."""

    EXCLUSIVE = "exclusive"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    ACTIVITY = "activity"
    SLICES = "slices"
    EQUAL = "equal"
    REST = "rest"


class RunUsage(NamedTuple):
    """CPU time used by one run since the last look, and the memory it holds now."""

    run: RunKey
    cpu_us: int
    memory_bytes: int
    held_threads: int = 0
    """Hardware threads that the run has alone, whether or not it uses them."""


class GpuHolding(NamedTuple):
    """A GPU, or a part of one, that a run holds whether or not it does anything with it."""

    device: Device
    run: RunKey
    partition: str = ""
    """Id of the partition that is held; "": the whole device, or some of its replicas."""
    units: int = 1
    """Replicas that are held."""
    units_of: int = 0
    """Replicas that can be held; 0: as many as are held."""
    since_ns: int = 0
    until_ns: int | None = None
    """CLOCK_BOOTTIME; None: it is held still."""
    is_proxy: bool = False
    """By a process that works for others, as an MPS server does: it gives way to who holds it."""


NO_PROCESS_RUNS: Mapping[int, RunKey] = MappingProxyType({})


class HostUsage(NamedTuple):
    """The whole machine since the last look; what runs are measured against."""

    busy_us: int
    """CPU time spent by anything, summed over hardware threads."""
    total_us: int
    """CPU time that there was, idle included."""
    memory_used_bytes: int
    """Anonymous and shared memory in use by anything."""
    memory_total_bytes: int
    exporter_us: int = 0
    """CPU time of this daemon; inside `busy_us`."""
    threads: int = 0
    """Hardware threads; 0: not known."""


class WorkloadSample(NamedTuple):
    """Who ran and what they used since the last look."""

    at_ns: int
    usage: tuple[RunUsage, ...]
    machine: HostUsage | None
    """None: the machine's own totals could not be read."""
    machine_owner: RunKey | None = None
    """A run that owns the whole machine and pays for what nobody else used."""
    holdings: tuple[GpuHolding, ...] = ()
    """Of GPUs; those that ended since the last look among them."""
    run_of_pid: Mapping[int, RunKey] = NO_PROCESS_RUNS
    """The runs of processes that have a context on a GPU, by pid; who is in no run is left out."""
    proxy_pids: frozenset[int] = frozenset()
    """Processes on a GPU that work for others, by pid: MPS servers that are known by name."""


class EnergyShare(NamedTuple):
    """One party's part of one interval. The shares of an interval sum to its energy, exactly."""

    target: AttributionTarget
    energy_uj: int
    split: SplitMethod
    held_uj: int = 0
    """Part of `energy_uj` that is idle power of what the party holds."""


SETTINGS = "config"
"""Name of the state that says why the settings could not be reloaded; absent if they could."""


class CollectorState(NamedTuple):
    """Whether a source of samples or of workload worked at its last try."""

    name: str
    ok: bool
    seconds: float
    why: str = ""
