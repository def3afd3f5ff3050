"""Types of stage attribute: usage of runs, GPU holdings and shares of an interval."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from exporter.model.readings import Device
from exporter.model.runs import RunKey


class UnattributedReason(StrEnum):
    """Why energy is not attributed to any run."""

    IDLE = "idle"
    OTHER = "other"
    UNALLOCATED = "unallocated"
    UNKNOWN_PROCESS = "unknown_process"
    RESTART = "restart"


AttributionTarget: TypeAlias = RunKey | UnattributedReason
"""A run, or a reason for unattributed energy; every microjoule is booked on exactly one."""


class SplitMethod(StrEnum):
    """How a share of a device's energy was determined."""

    EXCLUSIVE = "exclusive"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    ACTIVITY = "activity"
    SLICES = "slices"
    EQUAL = "equal"
    REST = "rest"


class RunUsage(NamedTuple):
    """CPU time of one run since the previous sample, and its current memory."""

    run: RunKey
    cpu_us: int
    memory_bytes: int
    held_threads: int = 0
    """Hardware threads that the run holds exclusively, whether or not it uses them."""


class GpuHolding(NamedTuple):
    """A GPU, or a part of one, that a run holds, used or not."""

    device: Device
    run: RunKey
    partition: str = ""
    """Id of the held partition; "": the whole device, or some of its replicas."""
    units: int = 1
    """Number of replicas held."""
    units_of: int = 0
    """Total number of replicas; 0: the sum of those held."""
    since_ns: int = 0
    until_ns: int | None = None
    """CLOCK_BOOTTIME; None: still held."""
    is_proxy: bool = False
    """Whether the holder is a process that works on behalf of others, such as an MPS server; other
    holders take precedence."""


NO_PROCESS_RUNS: Mapping[int, RunKey] = MappingProxyType({})


class HostUsage(NamedTuple):
    """Usage of the whole host since the previous sample, of which runs have shares."""

    busy_us: int
    """CPU time of all processes and the kernel, summed over hardware threads."""
    total_us: int
    """CPU time including idle time."""
    memory_used_bytes: int
    """Anonymous and shared memory in use."""
    memory_total_bytes: int
    exporter_us: int = 0
    """CPU time of this daemon; included in `busy_us`."""
    threads: int = 0
    """Number of hardware threads; 0: not known."""
    is_partial: bool = False
    """Whether the times begin after the previous sample: the clocks at a restart are not known."""


class WorkloadSample(NamedTuple):
    """Runs and their usage since the previous sample."""

    at_ns: int
    usage: tuple[RunUsage, ...]
    machine: HostUsage | None
    """None: the totals of the host could not be read."""
    machine_owner: RunKey | None = None
    """The run of scope `machine`, which is charged for everything that no other run used."""
    holdings: tuple[GpuHolding, ...] = ()
    """GPU holdings, including those that ended since the previous sample."""
    run_of_pid: Mapping[int, RunKey] = NO_PROCESS_RUNS
    """Runs of the processes with a context on a GPU, by pid; processes without a run are absent."""
    proxy_pids: frozenset[int] = frozenset()
    """Pids of processes on a GPU that work on behalf of others: MPS servers, recognized by name."""
    known_runs: frozenset[RunKey] | None = None
    """After a restart: the runs that existed before it, which alone can have used energy of the
    time in between. None: no restart since the previous sample."""


class EnergyShare(NamedTuple):
    """Share of one attribution target in an interval. The shares sum exactly to its energy."""

    target: AttributionTarget
    energy_uj: int
    split: SplitMethod
    held_uj: int = 0
    """Part of `energy_uj` that is idle power of held devices."""


SETTINGS = "config"
"""Name of the state of a failed reload of the settings; absent otherwise."""


class CollectorState(NamedTuple):
    """Result of the last run of a collector."""

    name: str
    ok: bool
    seconds: float
    why: str = ""
