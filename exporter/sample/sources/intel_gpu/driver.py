"""Driver of Intel's discrete GPUs: energy by hwmon, processes by the fdinfo of DRM."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import (
    NO_DRIVER_CALLS,
    Device,
    DeviceInfo,
    DeviceKind,
    DriverCallStats,
    GpuActivity,
    GpuProcess,
)
from exporter.sample.kernel_files import ReusedFile, read_text
from exporter.sample.sources.drm_fdinfo import DrmFdinfoReader, DrmUser, DrmUsers
from exporter.sample.sources.gpu.driver import (
    ErrorClass,
    GpuError,
    GpuListing,
    GpuValues,
    ListedGpu,
)
from exporter.sample.sources.gpu.identity import power_cap_watts
from exporter.sample.sources.gpu.pci import (
    IDLE_READ_NS,
    PciGpu,
    PciMatch,
    is_kept_awake,
    pci_gpus,
    pci_path,
)
from exporter.sample.sources.intel_gpu.hwmon import (
    REGISTER_RANGE_UJ,
    EnergyCounter,
    find_counter,
)
from exporter.sample.sources.intel_gpu.models import model_name
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import SharedCall

NAME = "intel_gpu"
PCI = PciMatch("0x8086", ("0x03",), ("i915", "xe"))
INTEGRATED = "0000:00:02.0"
"""PCI address of integrated graphics in every processor."""
D3COLD = "D3cold"
LIMITS_REFRESH_NS = 60 * NANOSECONDS_PER_SECOND
USERS_PERIOD_SECONDS = 5.0
MAX_SCAN_AGE_SECONDS = 2.0
"""Less than the interval of polls, so that each uses a new scan of all processes."""
NO_COUNTER = (
    "GPU {address} ({model}) is not measured: its kernel driver {driver} reports no energy; a "
    "newer kernel may"
)
NOT_A_NUMBER = "{path}: does not contain a number"
ZERO = "{path}: 0, which the kernel reports if it cannot read the telemetry of the card"
HIDDEN = (
    "the files of {count} processes of other users cannot be read, which may use GPUs: run as root "
    "or with CAP_SYS_PTRACE"
)


class IntelCard(NamedTuple):
    """What a reader needs to access a card."""

    path: str
    """Directory of its PCI device."""
    counter: EnergyCounter
    epoch: str


class _Limits(NamedTuple):
    load_id: str
    at_ns: int
    watts: tuple[float, ...]


class IntelDriver:
    """Lists the discrete cards of i915 and xe that have an energy counter.

    A card is identified by its PCI address, since sysfs has no serial number; its index is in the
    order of these addresses. Raises Unavailable if there is no discrete GPU.
    """

    name = NAME
    vendor = "Intel"
    pci = PCI
    wakes_gpus = False
    users_period_seconds = USERS_PERIOD_SECONDS

    def __init__(self, sysfs: str, procfs: str, clock: Clock) -> None:
        if not has_gpus(sysfs):
            raise Unavailable("no discrete Intel GPU found; load the module i915 or xe")
        self._sysfs = sysfs
        self._clock = clock
        self._awake: frozenset[str] = frozenset()
        """Names of the device files of cards that are awake."""
        self._clients = DrmFdinfoReader(procfs, clock, is_wanted=lambda node: node in self._awake)
        self._users = SharedCall(self._poll_clients, MAX_SCAN_AGE_SECONDS)
        self._limits: dict[str, _Limits] = {}
        """By PCI address."""
        self._cold: set[str] = set()
        """PCI addresses of cards that are without power."""
        self._power_losses: dict[str, int] = {}
        self._readers: dict[str, IntelReader] = {}
        self._reads_at_sleep: dict[str, int] = {}
        """Number of reads of a card when it was last seen asleep, by PCI address."""

    def open(self) -> None:
        """Do nothing: the files of sysfs need no driver of ours."""

    def list_gpus(self) -> GpuListing:
        """List the cards, without waking those that are suspended."""
        gpus, notes = [], []
        cards = [card for card in pci_gpus(self._sysfs, PCI) if card.driver and not card.is_foreign]
        for index, (card, counter) in enumerate(_discrete(self._sysfs, cards)):
            if counter is not None:
                gpus.append(self._listed(index, card, counter))
            else:
                path = pci_path(self._sysfs, card.address)
                model = model_name(read_text(path, "device"))
                notes.append(
                    NO_COUNTER.format(address=card.address, model=model, driver=card.driver)
                )
        return GpuListing(gpus, notes=notes)

    def _poll_clients(self) -> DrmUsers:
        """Return the clients of cards that are awake: reading those of others would wake them."""
        self._awake = frozenset(
            node
            for card in pci_gpus(self._sysfs, PCI)
            if not card.is_asleep
            for node in _device_nodes(pci_path(self._sysfs, card.address))
        )
        return self._clients.poll()

    def _listed(self, index: int, card: PciGpu, counter: EnergyCounter) -> ListedGpu:
        path = pci_path(self._sysfs, card.address)
        limits_watts = self._limits_watts(card, path, counter)
        info = DeviceInfo(
            Device(DeviceKind.GPU, card.address),
            model_name(read_text(path, "device")),
            self.vendor,
            self.name,
            power_cap_watts(max(limits_watts, default=None)),
            unread_wrap_uj=self._unread_wrap_uj(card),
            power_limit_watts=limits_watts[0] if limits_watts else None,
            ordinal=str(index),
            pci_bus_id=card.address,
            aliases=(card.address, _claim_name(card.address, path), *_device_nodes(path)),
        )
        return ListedGpu(IntelCard(path, counter, self._epoch(card, path, counter)), info)

    def _unread_wrap_uj(self, card: PciGpu) -> int | None:
        """Return the range of the register; None if the card was asleep since its last readings.

        Nothing reads a sleeping card, but it uses too little for a wrap: at 5 W, in 14 hours. The
        second reading after waking is certainly not the one whose energy includes the sleep.
        """
        reader = self._readers.get(card.address)
        reads = reader.reads if reader is not None else 0
        if card.is_asleep:
            self._reads_at_sleep[card.address] = reads
        is_sleep_over = reads >= self._reads_at_sleep.get(card.address, -2) + 2
        return REGISTER_RANGE_UJ if is_sleep_over else None

    def _limits_watts(self, card: PciGpu, path: str, counter: EnergyCounter) -> tuple[float, ...]:
        """Return the power limits of a card; reading them would wake it or keep it awake."""
        now_ns, load_id = self._clock.boottime_ns(), counter.load_id
        known = self._limits.get(card.address)
        if known is not None and (
            card.is_asleep
            or (
                known.load_id == load_id
                and (now_ns - known.at_ns < LIMITS_REFRESH_NS or is_kept_awake(path))
            )
        ):
            return known.watts
        if card.is_asleep:
            return ()
        watts = tuple(counter.limits_watts())
        self._limits[card.address] = _Limits(load_id, now_ns, watts)
        return watts

    def _epoch(self, card: PciGpu, path: str, counter: EnergyCounter) -> str:
        """Return what identifies the register: this load of the driver, and losses of power.

        Without power (D3cold) the register restarts, which the kernel takes for a wrap. A loss
        shorter than the interval of listing implies an implausible power instead.
        """
        if read_text(path, "power_state") != D3COLD:
            self._cold.discard(card.address)
        elif card.address not in self._cold:
            self._cold.add(card.address)
            self._power_losses[card.address] = self._power_losses.get(card.address, 0) + 1
        losses = self._power_losses.get(card.address, 0)
        return f"{counter.load_id}/cold-{losses}" if losses else counter.load_id

    def reader(self, info: DeviceInfo) -> "IntelReader":
        """Return the reader of a card."""
        reader = IntelReader(info, self._clock, self._users)
        self._readers[info.pci_bus_id] = reader
        return reader

    def close(self) -> None:
        """Do nothing: readers close their files."""

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return nothing: there are no driver calls."""
        return NO_DRIVER_CALLS


class IntelReader:
    """Reads energy and processes of one card."""

    def __init__(self, info: DeviceInfo, clock: Clock, users: SharedCall[DrmUsers]) -> None:
        self._device = info.device
        self._address = info.pci_bus_id
        self._clock = clock
        self._users = users
        self.reads = 0
        """Number of reads of the counter."""
        self._file: ReusedFile | None = None
        self._last = GpuValues()

    def read_energy(self, handle: IntelCard, cap_watts: float) -> GpuValues:  # noqa: ARG002
        """Read the counter; i915 and xe report no power.

        A card that is only awake because it is read is read less often, so that it can go to sleep.
        """
        now_ns = self._clock.boottime_ns()
        is_recent = self._last.epoch == handle.epoch and now_ns - self._last.at_ns < IDLE_READ_NS
        if not (is_recent and is_kept_awake(handle.path)):
            self._last = GpuValues(
                self._counter_uj(handle.counter.path),
                at_ns=self._clock.boottime_ns(),
                epoch=handle.epoch,
            )
            self.reads += 1
        return self._last

    def _counter_uj(self, path: str) -> int:
        if self._file is None or self._file.path != path:
            self.release()
            self._file = ReusedFile(path)
        try:
            counter_uj = int(self._file.read(32))
        except OSError as error:
            raise GpuError(f"{path}: {error.strerror}", _error_class(error)) from error
        except ValueError:
            raise GpuError(NOT_A_NUMBER.format(path=path), ErrorClass.TRANSIENT) from None
        if counter_uj == 0:
            raise GpuError(ZERO.format(path=path), ErrorClass.TRANSIENT)
        return counter_uj

    def read_users(self, handle: IntelCard) -> GpuActivity:  # noqa: ARG002
        """Return the processes that have used the card.

        An unused client, as of a monitor, does not count. The activities of a process on the
        engines add up, since their shares of the power are not known. Raises GpuError if another
        process may use the card too.
        """
        found = self._users.result()
        if found.hidden:
            raise GpuError(HIDDEN.format(count=found.hidden), ErrorClass.DENIED)
        users = [user for user in found.users if user.pdev == self._address and user.has_worked]
        active = _active_by_pid(users)
        known = sum(bool(user.active) for user in users)
        return GpuActivity(
            self._device,
            found.at_ns,
            tuple(GpuProcess(pid, active=min(1.0, share)) for pid, share in active.items()),
            coverage=known / len(users) if users else 1.0,
            utilization=min(1.0, sum(active.values())) if users else None,
        )

    def forget(self) -> None:
        """Do nothing: no function is given up."""

    def release(self) -> None:
        """Close the file of the counter."""
        if self._file is not None:
            self._file.close()

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return nothing: there are no driver calls."""
        return NO_DRIVER_CALLS


def has_gpus(sysfs: str) -> bool:
    """Whether there is a GPU other than integrated graphics, whose energy is the processor's."""
    return any(_discrete(sysfs, pci_gpus(sysfs, PCI)))


def _discrete(sysfs: str, cards: Iterable[PciGpu]) -> Iterator[tuple[PciGpu, EnergyCounter | None]]:
    """Yield the cards that are not integrated graphics, with their counters."""
    for card in cards:
        counter = find_counter(pci_path(sysfs, card.address))
        if counter is not None or card.address != INTEGRATED:
            yield card, counter


def _device_nodes(path: str) -> list[str]:
    """Return the names of the device files of a card: card1, renderD129."""
    try:
        return sorted(name for name in os.listdir(os.path.join(path, "drm")) if "-" not in name)
    except OSError:
        return []


def _claim_name(address: str, path: str) -> str:
    """Return the name in Intel's driver for dynamic resource allocation: 0000-03-00-0-0x56a0.

    Source: DeviceUIDFromPCIinfo of intel/intel-resource-drivers-for-kubernetes.
    """
    return f"{address}-{read_text(path, 'device')}".replace(":", "-").replace(".", "-")


def _active_by_pid(users: Iterable[DrmUser]) -> dict[int, float]:
    active: dict[int, float] = {}
    for user in users:
        active[user.pid] = active.get(user.pid, 0.0) + sum(user.active.values())
    return active


def _error_class(error: OSError) -> ErrorClass:
    if error.errno in (errno.ENOENT, errno.ENODEV):
        return ErrorClass.DEVICE
    return ErrorClass.DENIED if isinstance(error, PermissionError) else ErrorClass.TRANSIENT
