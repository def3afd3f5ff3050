"""The driver `amdgpu` of `GpuCollector`: lists AMD cards, by sysfs alone."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import (
    NO_DRIVER_CALLS,
    Device,
    DeviceInfo,
    DeviceKind,
    DriverCallStats,
    Method,
    Partition,
)
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.powercap import has_zones
from exporter.sample.sources.amdgpu.cards import (
    AMD_PCI,
    DUAL_DIE,
    MI300A,
    Die,
    dra_names,
    list_dies,
    pair_dies,
    partition_names,
    read_watts,
)
from exporter.sample.sources.amdgpu.gpu_metrics import GpuMetrics
from exporter.sample.sources.amdgpu.kfd import (
    KfdNode,
    KfdTopology,
    OccupancySampler,
    read_queues,
    read_topology,
    shares_host_pids,
)
from exporter.sample.sources.amdgpu.reader import (
    OTHER_PIDS,
    TOPOLOGY_DENIED,
    AmdReader,
    AmdUsers,
    CardHandle,
    DieHandle,
    UserPlace,
    read_metrics,
)
from exporter.sample.sources.drm_fdinfo import DrmFdinfoReader
from exporter.sample.sources.gpu.driver import GpuError, GpuListing, ListedGpu, PartitionLayout
from exporter.sample.sources.gpu.identity import (
    WHOLE_MODULE_SUFFIX,
    plausible_limit_watts,
    power_cap_watts,
)
from exporter.worker import SharedCall

USERS_SECONDS = 5.0
SHARED_SECONDS = 2.5
"""Age of a scan of all processes that is still used for another card."""
ID_PREFIX = "GPU-"
"""Of the ids that ROCm makes of serial numbers, as in ROCR_VISIBLE_DEVICES."""
APU_NOTE = "GPU {address} is part of the processor, whose energy includes it"
UNPAIRED_NOTE = "GPU {address} measures no power, and the die that measures it was not found"


def has_gpus(sysfs: str) -> bool:
    """Whether the machine has an AMD GPU with an energy of its own."""
    return any(not die.is_apu or die.device_id == MI300A for die in list_dies(sysfs))


class AmdDriver:
    """Lists AMD cards: a card with two dies, such as MI250X, is one GPU with two partitions."""

    name = "amdgpu"
    vendor = "AMD"
    pci = AMD_PCI
    wakes_gpus = False
    users_period_seconds = USERS_SECONDS

    def __init__(self, sysfs: str, procfs: str, clock: Clock) -> None:
        """Raises Unavailable if no GPU has the driver amdgpu."""
        if not list_dies(sysfs):
            raise Unavailable("no AMD GPU with the driver amdgpu found; load the module amdgpu")
        self._sysfs = sysfs
        self._procfs = procfs
        self._clock = clock
        self._nodes: frozenset[str] = frozenset()
        """Names of the DRM devices of all cards."""
        clients = DrmFdinfoReader(procfs, clock, is_wanted=lambda node: node in self._nodes)
        self._users = AmdUsers(
            SharedCall(partial(read_queues, sysfs), SHARED_SECONDS),
            SharedCall(clients.poll, SHARED_SECONDS),
        )
        self._metrics: dict[str, GpuMetrics] = {}
        """Metrics of each die while it was awake, by address: which values it reports."""
        self._limits_watts: dict[str, float | None] = {}
        """By address."""

    def open(self) -> None:
        """Do nothing: there is no library."""

    def list_gpus(self) -> GpuListing:
        """List the cards, without waking those that are asleep."""
        all_dies = list_dies(self._sysfs)
        dies, notes, failures = [], [], []
        for die in all_dies:
            if die.is_apu and not (die.device_id == MI300A and not has_zones(self._sysfs)):
                notes.append(APU_NOTE.format(address=die.address))
                continue
            dies.append(die)
            try:
                self._learn(die)
            except GpuError as error:
                failures.append(error)
        partitions = partition_names(self._sysfs)
        self._nodes = frozenset(chain(*(die.nodes for die in all_dies), *partitions.values()))
        parts = _parts(all_dies, read_topology(self._sysfs), partitions)
        listed = []
        for card in self._cards(dies):
            if self._measures_nothing(card[0]):
                notes.append(UNPAIRED_NOTE.format(address=card[0].address))
                continue
            listed.append(self._listed(card, parts))
            why = self._metrics.get(card[0].address, GpuMetrics("")).why
            if why:
                notes.append(f"GPU {card[0].address}: {why}")
        return GpuListing(listed, failures, notes)

    def reader(self, info: DeviceInfo) -> AmdReader:
        """Return the reader of a card."""
        sampler = OccupancySampler(self._sysfs)
        return AmdReader(info.device, self._clock, self._users, sampler)

    def close(self) -> None:
        """Do nothing: the readers have the files."""

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return no statistics: there is no library."""
        return NO_DRIVER_CALLS

    def _learn(self, die: Die) -> None:
        """Read the metrics of a die once, or again while it is used and reports no energy."""
        known = self._metrics.get(die.address)
        if die.is_asleep or (
            known is not None and (known.energy_uj is not None or die.is_kept_awake)
        ):
            return
        file = ReusedFile(die.metrics_path)
        try:
            self._metrics[die.address] = read_metrics(file, die.hwmon, die.device_id)
        finally:
            file.close()

    def _measures_nothing(self, die: Die) -> bool:
        """Whether it is the secondary die of a card, which reports neither energy nor power."""
        known = self._metrics.get(die.address)
        return (
            die.device_id in DUAL_DIE
            and known is not None
            and known.energy_uj is None
            and known.power_watts is None
        )

    def _cards(self, dies: Sequence[Die]) -> Iterator[tuple[Die, ...]]:
        """Group the dies by card, by address."""
        dual = [die for die in dies if die.device_id in DUAL_DIE]
        secondary = {die.address for die in dual if self._measures_nothing(die)}
        singles = [(die,) for die in dies if die not in dual]
        return iter(sorted((*singles, *pair_dies(dual, secondary))))

    def _listed(
        self, card: tuple[Die, ...], all_parts: Mapping[str, Sequence["_Part"]]
    ) -> ListedGpu:
        die = card[0]
        gpu_id = f"{ID_PREFIX}{die.unique_id}" if die.unique_id else die.address
        parts = [part for each in card for part in all_parts[each.address]]
        layout = _layout(gpu_id, parts)
        whole = parts[0] if not layout.slices else None
        limit_watts = self._limit_watts(die)
        is_module = die.device_id == MI300A
        info = DeviceInfo(
            device=Device(DeviceKind.GPU, gpu_id),
            model=die.model + WHOLE_MODULE_SUFFIX * is_module,
            vendor=self.vendor,
            source=self.name,
            power_cap_watts=power_cap_watts(limit_watts),
            method=self._method(die),
            power_limit_watts=limit_watts,
            ordinal=whole.ordinal if whole is not None else "",
            pci_bus_id=die.address,
            aliases=whole.names if whole is not None else (),
        )
        handle = self._handle(card, parts, layout)
        return ListedGpu(handle, info, layout, covers_host=is_module)

    def _limit_watts(self, die: Die) -> float | None:
        """Return the power limit, or that of before if reading it would keep the die awake."""
        if not (die.is_asleep or (die.is_kept_awake and die.address in self._limits_watts)):
            self._limits_watts[die.address] = plausible_limit_watts(
                read_watts(die.hwmon, "power1_cap")
            )
        return self._limits_watts.get(die.address)

    def _method(self, die: Die) -> Method:
        """Return whether a die counts energy; a counter that is 0 is missing, see `_learn`."""
        known = self._metrics.get(die.address)
        return Method.COUNTER if known is None or known.energy_uj is not None else Method.INTEGRATED

    def _handle(
        self, card: tuple[Die, ...], parts: Sequence["_Part"], layout: PartitionLayout
    ) -> CardHandle:
        ids = [part.id for part in layout.partitions] or [""]
        dies = tuple(
            DieHandle(
                die.address,
                die.metrics_path,
                die.hwmon,
                die.device_id,
                part_id if len(card) > 1 else "",
            )
            for die, part_id in zip(card, ids, strict=False)
        )
        places = tuple(
            UserPlace(part.node.gpu_id, part_id, max(1, part.node.compute_units))
            for part, part_id in zip(parts, ids, strict=True)
            if part.node is not None
        )
        why = ""
        if len(places) < len(parts) and any(part.is_hidden for part in parts):
            why = TOPOLOGY_DENIED
        elif places and not shares_host_pids(self._procfs):
            why = OTHER_PIDS
        return CardHandle(dies, layout, places, why)


class _Part(NamedTuple):
    """A part of a card that can be held: a die, a partition, or all of it."""

    node: KfdNode | None
    """Its node in KFD's topology; None: there is none, or it may not be read."""
    is_hidden: bool
    """Whether it may have a node that may not be read."""
    ordinal: str
    """Its number among the GPUs of the machine."""
    names: tuple[str, ...]


def _parts(
    dies: Sequence[Die], topology: KfdTopology, xcp_nodes: Mapping[str, tuple[str, ...]]
) -> Mapping[str, Sequence[_Part]]:
    """Return the parts of each die, by its address, with all names of schedulers for them.

    `dies` are all of the machine in the order of addresses, by which `rocm-smi` numbers the parts;
    `xcp_nodes` has the names of partitions by their render node.
    """
    found: dict[str, list[_Part]] = {}
    count = 0
    for die in dies:
        for node in topology.of(die.address) or (None,):
            # The PCI device belongs to the first partition (ROCm/k8s-device-plugin issue 157).
            names: tuple[str, ...] = (die.address, *die.nodes)
            if node is not None and node.partition:
                render = f"renderD{node.render_minor}"
                names = xcp_nodes.get(render, (render,))
            elif die.unique_id:
                names = (*names, f"{ID_PREFIX}{die.unique_id}")
            part = _Part(node, topology.is_denied, str(count), (*names, *dra_names(names)))
            found.setdefault(die.address, []).append(part)
            count += 1
    return found


def _layout(gpu_id: str, parts: Sequence[_Part]) -> PartitionLayout:
    """Return the partitions of a card; none if it has one part."""
    if len(parts) == 1:
        return PartitionLayout()
    return PartitionLayout(
        len(parts),
        tuple(
            Partition(
                f"{gpu_id}/{number}",
                1.0,
                # Names that are the id of the card mean all of it.
                aliases=tuple(name for name in (*part.names, part.ordinal) if name != gpu_id),
            )
            for number, part in enumerate(parts)
        ),
    )
