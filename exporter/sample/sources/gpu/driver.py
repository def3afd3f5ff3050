"""Interface of a GPU driver: what a vendor implements so that `GpuCollector` can read its GPUs.

The collector has the threads, the list of GPUs, retries, suspended and lost GPUs, identity, the
detection of missing counters, and the release on SIGUSR1. A vendor has a package with a
`GpuDriver`, and a line in `exporter/sample/registry.py`. A minimal one, for GPUs with an energy
counter in a file:

    class ExampleDriver:
        name = "example"
        vendor = "Example"
        pci = PciMatch("0x1234", ("0x03", "0x12"), ("example_drm",))
        wakes_gpus = False
        users_period_seconds = 5.0

        def __init__(self, sysfs: str, procfs: str, clock: Clock) -> None:
            self._sysfs, self._clock = sysfs, clock

        def open(self) -> None: ...

        def list_gpus(self) -> GpuListing:
            return GpuListing([self._listed(card) for card in pci_gpus(self._sysfs, self.pci)])

        def _listed(self, card: PciGpu) -> ListedGpu:
            path = pci_path(self._sysfs, card.address)
            serial = read_text(path, "serial")
            limit_watts = plausible_limit_watts(read_watts(path))
            info = DeviceInfo(
                Device(DeviceKind.GPU, serial or card.address),
                read_text(path, "product_name") or UNKNOWN_MODEL,
                self.vendor,
                self.name,
                power_cap_watts(limit_watts),
                power_limit_watts=limit_watts,
                pci_bus_id=card.address,
                aliases=(card.address,),
            )
            return ListedGpu(path, info)

        def reader(self, info: DeviceInfo) -> "ExampleReader":
            return ExampleReader(info.device, self._clock)

        def close(self) -> None: ...

        def call_stats(self) -> Mapping[str, DriverCallStats]:
            return NO_DRIVER_CALLS


    class ExampleReader:
        def __init__(self, device: Device, clock: Clock) -> None:
            self._device, self._clock = device, clock

        def read_energy(self, handle: str, cap_watts: float) -> GpuValues:
            try:
                with open(f"{handle}/energy_uj", encoding="ascii") as file:
                    return GpuValues(counter_uj=int(file.read()))
            except FileNotFoundError as error:
                raise GpuError(f"{handle}: removed", ErrorClass.DEVICE) from error

        def read_users(self, handle: str) -> GpuActivity:
            users = tuple(GpuProcess(pid) for pid in pids_with_file(handle))
            return GpuActivity(self._device, self._clock.boottime_ns(), users)

        def forget(self) -> None: ...

        def release(self) -> None: ...

        def call_stats(self) -> Mapping[str, DriverCallStats]:
            return NO_DRIVER_CALLS
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any, NamedTuple, Protocol

from exporter.model.readings import DeviceInfo, DriverCallStats, GpuActivity, Partition
from exporter.sample.sources.gpu.pci import PciMatch


class ErrorClass(Enum):
    """Class of a driver's error, by its scope and remedy."""

    CAPABILITY = auto()
    """The function is not supported: do without."""
    DENIED = auto()
    """Not permitted: do without. For a GPU, a note if others can be read, as in a container that
    has some of the GPUs only."""
    EMPTY = auto()
    """There is no data, which is not a failure."""
    TRANSIENT = auto()
    """Retry in the next cycle."""
    DEVICE = auto()
    """This GPU is lost or needs a reset; others are not affected. It is used again when it is
    listed again."""
    LIBRARY = auto()
    """Close the driver and open it again."""
    PROCESS = auto()
    """No call will succeed in this process again, which must be restarted."""
    NODE = auto()
    """The driver is not available now; retried with backoff."""
    ENVIRONMENT = auto()
    """The device files are not accessible, as happens to containers; permanent if on all GPUs."""


class GpuError(Exception):
    """A failed call of a driver. The message says what failed, on what, and why."""

    def __init__(
        self, text: str, error_class: ErrorClass, *, is_driver_missing: bool = False
    ) -> None:
        """Create an error.

        `is_driver_missing`: the kernel module is not loaded, or its library is not installed, so
        that a GPU with another kernel driver explains the error.
        """
        super().__init__(text)
        self.error_class = error_class
        self.is_driver_missing = is_driver_missing

    @property
    def is_refusal(self) -> bool:
        """Whether the driver does not have or does not permit the function."""
        return self.error_class in (ErrorClass.CAPABILITY, ErrorClass.DENIED)


@contextmanager
def gpu_errors(call: str) -> Iterator[None]:
    """Convert any exception into GpuError, so that it affects only the GPU that caused it."""
    try:
        yield
    except GpuError:
        raise
    except Exception as error:
        text = f"{call}: unusable answer: {error!r}"
        raise GpuError(text, ErrorClass.TRANSIENT) from error


class PartitionLayout(NamedTuple):
    """Parts of a GPU that can be held on their own, such as MIG instances, without activity."""

    slices: int = 0
    """All slices of the GPU; 0: not partitioned."""
    partitions: tuple[Partition, ...] = ()


class ListedGpu(NamedTuple):
    """A GPU that the driver can read now."""

    handle: Any
    """What the reader needs to access it, with its partitions; valid until the next list."""
    info: DeviceInfo
    """Its id survives reboots. `method` is COUNTER if it is not known to have no counter:
    a GPU that reports only power for 30 s is treated as one without."""
    layout: PartitionLayout = PartitionLayout()
    covers_host: bool = False
    """Whether its energy includes that of the processors and the memory."""


class GpuListing(NamedTuple):
    """Result of listing the GPUs."""

    gpus: Sequence[ListedGpu]
    failures: Sequence[GpuError] = ()
    """Errors of GPUs that exist but cannot be described; the message names the GPU."""
    notes: Sequence[str] = ()
    """Information on GPUs that cannot be read, or not in full, which is no failure."""


class GpuValues(NamedTuple):
    """Energy and power of a GPU at one time; None: not reported. A sentinel is not a value."""

    counter_uj: int | None = None
    power_watts: float | None = None
    """If several sensors report a power, the first plausible one, else any."""
    at_ns: int = 0
    """CLOCK_BOOTTIME of the measurement, if it is known better than by the end of the read; 0: not
    known. Values that are too old are not used."""
    epoch: str = ""
    """What makes the counter a different one within a boot, such as a load of the kernel module."""
    failure: GpuError | None = None
    """First error, other than a refusal, that has made a value unavailable."""


class GpuReader(Protocol):
    """Reads one GPU, as long as the exporter runs: also after it was lost and listed again.

    Each of the first two methods is called by a thread of its own, so that they may block and may
    run at the same time. Neither is called while the kernel has suspended the PCI device. Both
    raise GpuError; other exceptions are treated as transient errors.
    """

    def read_energy(self, handle: Any, cap_watts: float) -> GpuValues:
        """Read counter and power, once per tick. Power above `cap_watts` is implausible.

        Raises GpuError for failures of the GPU or the driver. A result without values and
        `failure` means that the GPU reports neither energy nor power.
        """

    def read_users(self, handle: Any) -> GpuActivity:
        """Return the processes and partitions, with their activity since the previous call.

        Raises GpuError if the processes are not known: they must not be treated as none. A scan
        that all GPUs share belongs into `exporter.worker.SharedCall`.
        """

    def forget(self) -> None:
        """Retry what the GPU has refused, and open files again; it was lost and is listed again."""

    def release(self) -> None:
        """Close files and objects of the driver. No read is running; a later one opens them."""

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return number and duration of calls by function, if calls are counted."""


class GpuDriver(Protocol):
    """Access to all GPUs of one vendor. All methods but `call_stats` are called by one thread.

    The constructor raises Unavailable with reason and remedy if the machine has none of its GPUs.
    It does not access them.
    """

    name: str
    """Name of the collector."""
    vendor: str
    """In messages, such as "NVIDIA"."""
    pci: PciMatch
    wakes_gpus: bool
    """Whether `open` and `list_gpus` wake GPUs that the kernel has suspended. They are then not
    called as long as they can only find what is known."""
    users_period_seconds: float
    """Interval of `read_users`."""

    def open(self) -> None:
        """Open the driver. Raises GpuError; it is then called again, with backoff."""

    def list_gpus(self) -> GpuListing:
        """List the GPUs, every 10 s and after errors. Raises GpuError if the driver has failed."""

    def reader(self, info: DeviceInfo) -> GpuReader:
        """Return the reader of a GPU, once per GPU. Does not access it."""

    def close(self) -> None:
        """Close the driver, so that a GPU can be reset. All readers are released.

        Raises GpuError.
        """

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return number and duration of its own calls by function."""


def total_call_stats(
    parts: Iterable[Mapping[str, DriverCallStats]],
) -> dict[str, DriverCallStats]:
    """Return the sum of call statistics by function."""
    total: dict[str, DriverCallStats] = {}
    for part in parts:
        for name, cost in part.items():
            before = total.get(name, DriverCallStats(0, 0.0))
            total[name] = DriverCallStats(before.calls + cost.calls, before.seconds + cost.seconds)
    return total
