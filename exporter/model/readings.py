"""Types of stage sample: devices, readings, GPU activity and energy intervals."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from exporter import units


class DeviceKind(StrEnum):
    """Kind of a device; the value of the label `device`."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"
    REST = "rest"
    """What the node uses beyond the devices above: the node's meter minus their sum."""
    NODE = "node"
    """The whole machine. Its meter includes the other devices, so it is never added to them."""


PART_KINDS = (DeviceKind.GPU, DeviceKind.CPU, DeviceKind.DRAM)
"""Kinds of devices that are measured one by one, and whose energy is attributed to runs."""


class Method(StrEnum):
    """Measurement method of an energy."""

    COUNTER = "counter"
    INTEGRATED = "integrated"
    ESTIMATED = "estimated"


class CounterEvent(StrEnum):
    """Irregularity of a device's counter."""

    WRAP = "wrap"
    RESET = "reset"
    GLITCH = "glitch"
    GAP = "gap"


class Device(NamedTuple):
    """Identity of a device: its kind and an id that survives reboots."""

    kind: DeviceKind
    id: str


class DeviceInfo(NamedTuple):
    """Description of a device."""

    device: Device
    model: str
    vendor: str
    source: str
    """Name of the collector that reads it."""
    power_cap_watts: float
    """Upper bound of plausible power; a reading above it is suspect."""
    method: Method = Method.COUNTER
    wrap_uj: int | None = None
    """The counter wraps to 0 after this many microjoules; None: a decrease is a reset."""
    unread_wrap_uj: int | None = None
    """The driver adds up a register that wraps after this many microjoules, but only when it is
    read: an increase lacks a multiple of it if nothing read it for long; None: it lacks nothing."""
    power_limit_watts: float | None = None
    ordinal: str = ""
    """Index assigned by the driver, which may change; the label `index`."""
    pci_bus_id: str = ""
    aliases: tuple[str, ...] = ()
    """Other names by which schedulers and device plugins refer to it, such as nvidia0 for the
    device file /dev/nvidia0, or its PCI address."""


class Reading(NamedTuple):
    """Value of the energy counter or power sensor of one device, or why there is none."""

    device: Device
    at_ns: int
    """CLOCK_BOOTTIME of this read, not of the tick."""
    epoch: str
    """Two counter readings may be subtracted only if their epochs are equal."""
    counter_uj: int | None = None
    power_watts: float | None = None
    why: str = ""
    awake_ns: int = 0
    """CLOCK_MONOTONIC of this read, which stops while the machine is suspended.

    0: not known; the machine is then assumed never to have been suspended.
    """


class GpuProcess(NamedTuple):
    """A process with a context on a GPU, as reported by the driver."""

    pid: int
    partition: str = ""
    """Id of its partition; "": the device is not partitioned."""
    active: float = 0.0
    """Mean activity of the compute units caused by it since the previous poll, 0 to 1."""
    is_proxy: bool = False
    """Whether it works on behalf of other processes, such as an MPS server."""


class Partition(NamedTuple):
    """A separately allocatable part of a GPU, such as a MIG compute instance."""

    id: str
    slices: float
    """Slices of the device; a fraction if several partitions share the slices of a GPU instance."""
    active: float | None = None
    """Mean activity of its compute units, 0 to 1; None: not reported by the GPU."""
    instances: tuple[int, int] | None = None
    """Ids of its MIG GPU instance and of the compute instance within; None: no MIG instance."""
    aliases: tuple[str, ...] = ()
    """Other names by which schedulers and device plugins refer to it; the first of several
    partitions with a name has it."""


class GpuActivity(NamedTuple):
    """Processes, partitions and utilization of one GPU, polled less often than its energy."""

    device: Device
    at_ns: int
    gpu_processes: tuple[GpuProcess, ...] = ()
    partitions: tuple[Partition, ...] = ()
    slices: int = 0
    """Number of slices of a partitioned device; 0: not partitioned."""
    coverage: float = 0.0
    """Part of the time since the previous poll for which activity is known, 0 to 1."""
    utilization: float | None = None
    """Part of the time in which anything ran on the device, 0 to 1; None: not known."""
    why: str = ""
    """Why its processes are not known; "": they are."""


GPU_ACTIVITY_MAX_AGE_NS = 30 * units.NANOSECONDS_PER_SECOND
"""Age above which GPU activity is stale and is not used."""
NO_GPU_ACTIVITY: Mapping[Device, GpuActivity] = MappingProxyType({})


class DriverCallStats(NamedTuple):
    """Number and total duration of the calls of one driver function since startup."""

    calls: int
    seconds: float


NO_DRIVER_CALLS: Mapping[str, DriverCallStats] = MappingProxyType({})


class Observation(NamedTuple):
    """Everything that one device collector returned at one moment."""

    source: str
    at_ns: int
    infos: tuple[DeviceInfo, ...]
    readings: tuple[Reading, ...]
    cost_seconds: float = 0.0
    error: str = ""
    gpu_activity: tuple[GpuActivity, ...] = ()
    """Activity of GPUs polled since the previous observation."""
    calls: Mapping[str, DriverCallStats] = NO_DRIVER_CALLS
    """By name of the driver function."""
    unrecoverable: str = ""
    """Why the source cannot recover within this process; the daemon then reports unhealthy."""
    note: str = ""
    """Information for the operator that is not a failure."""


class DeviceCollector(Protocol):
    """A source of observations of devices."""

    name: str

    def read(self) -> Observation:
        """Read all devices. Hardware failures do not raise; the reading then has a reason."""

    def release(self) -> None:
        """Release all files and handles."""


class CounterState(NamedTuple):
    """State of a device's counter at its last accepted reading; kept across restarts."""

    device: Device
    raw_uj: int
    at_ns: int
    epoch: str
    power_watts: float = 0.0
    provisional_uj: int = 0
    """Energy booked by integrating power since `raw_uj` was read."""
    debt_uj: int = 0
    """Energy booked in excess of the counter; subtracted from later increments."""
    suspect_uj: int | None = None
    suspect_at_ns: int = 0
    restored: bool = False
    """Whether a previous process read it, so that the next interval spans a restart."""
    provisional_at_ns: int = 0
    """End of the integration of `provisional_uj`; 0 or before `at_ns`: none."""
    awake_ns: int = 0
    """CLOCK_MONOTONIC at `at_ns`; 0: not known, nor is time suspended before the next reading.

    After a suspend, the three times of a state are shifted by its duration, so that the time since
    each of them excludes it; `at_ns - awake_ns` is the time suspended since boot.
    """
    uncounted: bool = False
    """Whether the published counters were reset to zero after `raw_uj` was read. They may have
    included energy of the next interval before the reset, so it is added to the totals only."""


class Interval(NamedTuple):
    """Energy of one device between two of its own readings.

    Time suspended between them is excluded: `t0_ns` is later than the first reading by that time.
    """

    device: Device
    t0_ns: int
    t1_ns: int
    energy_uj: int
    method: Method
    event: CounterEvent | None = None
    restart: bool = False
    """Whether no daemon ran during a part of it."""
    uncounted: bool = False
    """Whether it is added to the totals only; see `CounterState.uncounted`."""
