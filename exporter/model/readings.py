"""sample -> attribute: devices, readings of them, and the energy of one interval."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol


class DeviceKind(StrEnum):
    """What a device is; the value of the label `device`."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"


class Method(StrEnum):
    """How an energy was got."""

    COUNTER = "counter"
    INTEGRATED = "integrated"
    ESTIMATED = "estimated"


class CounterEvent(StrEnum):
    """What was out of the ordinary in a device's counter."""

    WRAP = "wrap"
    RESET = "reset"
    GLITCH = "glitch"
    GAP = "gap"


class Device(NamedTuple):
    """Identity of a device: its kind and an id that survives reboots."""

    kind: DeviceKind
    id: str


class DeviceInfo(NamedTuple):
    """What is known of a device besides its readings."""

    device: Device
    model: str
    vendor: str
    source: str
    """Name of the collector that reads it."""
    power_cap_watts: float
    """Bound of plausible power; a reading beyond it is held as suspect."""
    method: Method = Method.COUNTER
    wrap_uj: int | None = None
    """The counter restarts at 0 after this many microjoules; None: a fall is a reset."""
    power_limit_watts: float | None = None
    ordinal: str = ""
    """The driver's own number, which may change; the label `index`."""
    pci_bus_id: str = ""
    minor: int | None = None
    """Number of its device file, as in /dev/nvidia0, which is not the index; None: not known."""


class Reading(NamedTuple):
    """One look at one device: a counter, or a power, or the reason why there is neither."""

    device: Device
    at_ns: int
    """CLOCK_BOOTTIME of this very read, not of the tick."""
    epoch: str
    """Two counter readings are comparable only within one epoch."""
    counter_uj: int | None = None
    power_watts: float | None = None
    why: str = ""
    awake_ns: int = 0
    """CLOCK_MONOTONIC of this very read, which stands still while the machine sleeps.

    0: not known; the machine is then taken to have been awake all the time.
    """


class GpuProcess(NamedTuple):
    """A process that has a context on a GPU, as the driver tells it."""

    pid: int
    partition: str = ""
    """Id of the partition that it runs in; "": the device is not partitioned."""
    active: float = 0.0
    """Mean activity of the multiprocessors because of it since the look before, 0 to 1."""
    is_proxy: bool = False
    """It works for other processes, as an MPS server does; its activity is theirs."""


class Partition(NamedTuple):
    """A part of a GPU that is handed out by itself: a MIG compute instance."""

    id: str
    slices: float
    """Part of the device's slices; a fraction where several share the slices of one instance."""
    active: float | None = None
    """Mean activity of its own multiprocessors, 0 to 1; None: the chip does not say."""
    instances: tuple[int, int] | None = None
    """Numbers of its GPU instance and, in that, of its compute instance; None: not known."""


class GpuActivity(NamedTuple):
    """Who is on one GPU, looked at more rarely than its energy."""

    device: Device
    at_ns: int
    gpu_processes: tuple[GpuProcess, ...] = ()
    partitions: tuple[Partition, ...] = ()
    slices: int = 0
    """All slices of a device that is in MIG mode; 0: it is not partitioned."""
    coverage: float = 0.0
    """Part of the time since the look before for which activity is known, 0 to 1."""
    utilization: float | None = None
    """Part of the time in which anything ran on the device, 0 to 1; None: not known."""
    why: str = ""
    """Why nothing is known of its processes, if nothing is."""


NO_GPU_ACTIVITY: Mapping[Device, GpuActivity] = MappingProxyType({})


class DriverCallStats(NamedTuple):
    """What one sort of call into a driver has cost since the daemon began."""

    calls: int
    seconds: float


NO_DRIVER_CALLS: Mapping[str, DriverCallStats] = MappingProxyType({})


class Observation(NamedTuple):
    """All that one source says at one moment; the only thing that sample/sources emit."""

    source: str
    at_ns: int
    infos: tuple[DeviceInfo, ...]
    readings: tuple[Reading, ...]
    cost_seconds: float = 0.0
    error: str = ""
    gpu_activity: tuple[GpuActivity, ...] = ()
    """Those that are new since the last observation."""
    calls: Mapping[str, DriverCallStats] = NO_DRIVER_CALLS
    """By name of the driver's function."""
    sick: str = ""
    """Why the source cannot heal while this process lives; the daemon is then not healthy."""
    note: str = ""
    """What a person should know of the source that is no failure of it."""


class DeviceCollector(Protocol):
    """A source of observations."""

    name: str

    def read(self) -> Observation:
        """Look once. Never raises for hardware: what cannot be read is a reading with a reason."""

    def release(self) -> None:
        """Let go of every file and handle."""


class CounterState(NamedTuple):
    """Where a device's counter stood; what the ledger keeps, so that a restart can go on."""

    device: Device
    raw_uj: int
    at_ns: int
    epoch: str
    power_watts: float = 0.0
    provisional_uj: int = 0
    """Already booked by integrating power since `raw_uj` was read."""
    debt_uj: int = 0
    """Booked beyond what the counter then showed; taken off later increments."""
    suspect_uj: int | None = None
    suspect_at_ns: int = 0
    restored: bool = False
    """Read before this process started: the next interval spans a restart."""
    provisional_at_ns: int = 0
    """Until when `provisional_uj` was integrated; 0 or before `at_ns`: nothing was."""
    awake_ns: int = 0
    """CLOCK_MONOTONIC at `at_ns`; 0: not known, time asleep before the next reading is not either.

    After a sleep the three times of a position are moved on by its length, so that the time since
    each of them is time awake; `at_ns - awake_ns` is what the machine has slept since boot.
    """
    uncounted: bool = False
    """The published counters began at zero after `raw_uj` was read, and may have shown before that
    what was used since: it belongs to the totals alone."""


class Interval(NamedTuple):
    """The energy of ONE device between ITS two readings.

    Time asleep between them is left out: `t0_ns` is that much later than the first of them.
    """

    device: Device
    t0_ns: int
    t1_ns: int
    energy_uj: int
    method: Method
    event: CounterEvent | None = None
    restart: bool = False
    """No daemon ran for a part of it."""
    uncounted: bool = False
    """It belongs to the totals alone, as its position says."""
