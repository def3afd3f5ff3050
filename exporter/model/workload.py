"""attribute -> convert: what runs used, and their shares of an interval."""

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from exporter.model.runs import RunKey


class Reason(StrEnum):
    """Why an energy is charged to no run."""

    IDLE = "idle"
    OTHER = "other"
    UNALLOCATED = "unallocated"
    UNKNOWN_PROCESS = "unknown_process"
    RESTART = "restart"


Party: TypeAlias = RunKey | Reason
"""Every microjoule is booked on exactly one party."""


class Split(StrEnum):
    """How a share of a device's energy was found."""

    EXCLUSIVE = "exclusive"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    REST = "rest"


class Usage(NamedTuple):
    """CPU time used by one run since the last look, and the memory it holds now."""

    run: RunKey
    cpu_us: int
    memory_bytes: int


class Machine(NamedTuple):
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


class Sighting(NamedTuple):
    """Who ran and what they used since the last look."""

    at_ns: int
    usage: tuple[Usage, ...]
    machine: Machine | None
    """None: the machine's own totals could not be read."""
    holder: RunKey | None = None
    """A run that owns the whole machine and pays for what nobody else used."""


class Share(NamedTuple):
    """One party's part of one interval. The shares of an interval sum to its energy, exactly."""

    party: Party
    energy_uj: int
    split: Split
    held_uj: int = 0
    """Part of `energy_uj` that is idle power of what the party holds."""


class CollectorState(NamedTuple):
    """Whether a source of samples or of workload worked at its last try."""

    name: str
    ok: bool
    seconds: float
    why: str = ""
