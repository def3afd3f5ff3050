"""Registry of the sources of energy: opens those that work on this machine.

SOURCES has one line for each source.
"""

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import NamedTuple

from exporter.clock import UNKNOWN_BOOT, Clock
from exporter.errors import Unavailable
from exporter.model.readings import DeviceCollector, DeviceKind
from exporter.model.workload import CollectorState
from exporter.privileges import READ_ANY_FILE, read_capabilities
from exporter.sample.counter_fallback import CollectorWithFallback, StuckCounterFallback
from exporter.sample.power_model import CpuInfo, cpu_power_model, dram_power_model, read_cpuinfo
from exporter.sample.powercap import has_zones
from exporter.sample.sources import (
    acpi_power_meter,
    amdgpu,
    board_power,
    hsmp,
    intel_gpu,
    pm_counters,
    xgene,
)
from exporter.sample.sources.cpu_estimate import CpuEstimateCollector, read_busy_us
from exporter.sample.sources.dram_estimate import DramEstimateCollector
from exporter.sample.sources.gpu.collector import GpuCollector
from exporter.sample.sources.gpu.driver import GpuDriver
from exporter.sample.sources.node_query import NodeQuery, NodeQueryCollector
from exporter.sample.sources.nvml import NvmlDriver, has_gpu_or_library
from exporter.sample.sources.rapl import RaplCollector
from exporter.sample.threaded_collector import ThreadedCollector

NO_NODE_QUERY = NodeQuery()
RELEASE_SECONDS = 300.0
"""Time for which drivers are released on request."""
NO_BOOT_ID = (
    "{procfs}/sys/kernel/random/boot_id cannot be read, so energy used while the daemon is stopped "
    "is not recovered; mount all of procfs and set --path.procfs to the mount point"
)
PROCESSOR_POWER = "cpu energy is integrated from the power of the processors"
MODULE_COUNTERS = (
    "cpu and dram energy are included in that of the GPUs: their counters cover the whole module"
)


class SourceContext(NamedTuple):
    """What the sources need of this machine and of the settings."""

    sysfs: str
    procfs: str
    clock: Clock
    boot_id: str
    cpu: CpuInfo
    cpu_idle_watts_per_thread: float | None
    cpu_full_watts_per_thread: float | None
    dram_watts_per_gb: float | None
    node: str
    node_query: NodeQuery


class OpenedSource(NamedTuple):
    """The collector of a source, with what the registry needs to know of it."""

    collector: DeviceCollector
    kinds: Collection[DeviceKind] = ()
    """Kinds of devices that it measures, so that no replacement is opened for them."""
    notes: tuple[str, ...] = ()
    covers_host: Callable[[], bool] = lambda: False
    """Whether the energy of its devices includes that of the processors and the memory."""
    release_driver: Callable[[], None] = lambda: None
    """Releases its driver temporarily, so that a device can be reset."""
    lag_seconds: float = 0.0
    """Time by which the values of a meter of the node are late, as far as it is known."""


class EnergySource(NamedTuple):
    """A source of energy: one line of SOURCES."""

    name: str
    """Name of the collector, by which it can be enabled and disabled."""
    open: Callable[[SourceContext], OpenedSource]
    """Raises Unavailable with the reason and the remedy, which is logged as a warning."""
    is_present: Callable[[SourceContext], bool] = lambda _: True
    """Whether this machine may have the hardware. If not, the source is opened only if it is
    enabled by name, so that a machine without the hardware reports no failure."""
    absent_note: str = ""
    """Note for the operator if the hardware is not present; "": none."""
    replaces: DeviceKind | None = None
    """Kind of devices for which it is opened only if no source before it measures them."""
    may_be_stuck: bool = False
    """Whether the last replacement of a kind is used while the counters of this kind do not
    increase although the machine is busy."""


class OpenedCollectors(NamedTuple):
    """The collectors of this machine."""

    device_collectors: tuple[DeviceCollector, ...]
    states: tuple[CollectorState, ...]
    """States of enabled collectors that could not be opened."""
    notes: tuple[str, ...]
    """Notes for the operator, with the remedy."""
    release_driver: Callable[[], None] = lambda: None
    """Releases the drivers temporarily, so that a device can be reset."""
    node_collector: DeviceCollector | None = None
    """The collector of the meter of the whole node; None: there is none."""
    node_lag_seconds: float = 0.0
    """Time by which its values are late, as far as it is known."""


def _open_gpus(
    make_driver: Callable[[SourceContext], GpuDriver], host: SourceContext
) -> OpenedSource:
    gpus = GpuCollector(make_driver(host), host.sysfs, host.clock, host.boot_id)
    return OpenedSource(
        gpus,
        covers_host=gpus.covers_host,
        release_driver=partial(gpus.release_for, RELEASE_SECONDS),
    )


def _open_rapl(host: SourceContext) -> OpenedSource:
    is_privileged = not read_capabilities(host.procfs).isdisjoint(READ_ANY_FILE)
    cpu = host.cpu
    rapl = RaplCollector(
        *(host.sysfs, host.clock, host.boot_id, cpu.model, cpu.vendor), is_privileged=is_privileged
    )
    notes = tuple(f"{rapl.name}: {note}" for note in rapl.notes)
    return OpenedSource(rapl, {info.device.kind for info in rapl.infos}, notes)


def _open_processor_power(
    open_sensors: Callable[[str, Clock, str, CpuInfo], ThreadedCollector], host: SourceContext
) -> OpenedSource:
    sensors = open_sensors(host.sysfs, host.clock, host.boot_id, host.cpu)
    return OpenedSource(sensors, {DeviceKind.CPU}, (f"{sensors.name}: {PROCESSOR_POWER}",))


def _open_grace(host: SourceContext) -> OpenedSource:
    sensors = acpi_power_meter.open_grace(host.sysfs, host.clock, host.boot_id, host.cpu)
    note = f"{sensors.name}: {PROCESSOR_POWER}, which includes the memory"
    return OpenedSource(sensors, {DeviceKind.CPU, DeviceKind.DRAM}, (note,))


def _open_node_query(host: SourceContext) -> OpenedSource:
    query = NodeQueryCollector(host.node_query, host.node, host.clock, host.boot_id)
    return OpenedSource(query, {DeviceKind.NODE})


def _open_node_meter(
    open_meter: Callable[[str, Clock, str], ThreadedCollector], host: SourceContext
) -> OpenedSource:
    return OpenedSource(open_meter(host.sysfs, host.clock, host.boot_id), {DeviceKind.NODE})


def _open_acpi_node(host: SourceContext) -> OpenedSource:
    opened = _open_node_meter(acpi_power_meter.open_node, host)
    return opened._replace(lag_seconds=acpi_power_meter.node_lag_seconds(host.sysfs))


def _open_cpu_estimate(host: SourceContext) -> OpenedSource:
    watts = cpu_power_model(
        host.cpu, host.cpu_idle_watts_per_thread, host.cpu_full_watts_per_thread
    )
    note = (
        f"cpu energy is estimated, {watts.idle_per_thread:.2f} W (idle) to "
        f"{watts.full_per_thread:.2f} W (busy) per thread: {watts.basis}"
    )
    estimate = CpuEstimateCollector(host.procfs, host.clock, host.boot_id, host.cpu, watts)
    return OpenedSource(estimate, {DeviceKind.CPU}, (note,))


def _open_dram_estimate(host: SourceContext) -> OpenedSource:
    watts = dram_power_model(host.dram_watts_per_gb)
    note = f"dram energy is estimated, {watts.per_gb:g} W per GB: {watts.basis}"
    estimate = DramEstimateCollector(host.procfs, host.clock, host.boot_id, watts.per_gb)
    return OpenedSource(estimate, {DeviceKind.DRAM}, (note,))


SOURCES = (
    EnergySource(
        NvmlDriver.name,
        partial(_open_gpus, lambda host: NvmlDriver(host.sysfs, host.clock)),
        is_present=lambda host: has_gpu_or_library(host.sysfs),
    ),
    EnergySource(
        amdgpu.AmdDriver.name,
        partial(_open_gpus, lambda host: amdgpu.AmdDriver(host.sysfs, host.procfs, host.clock)),
        is_present=lambda host: amdgpu.has_gpus(host.sysfs),
    ),
    EnergySource(
        intel_gpu.IntelDriver.name,
        partial(
            _open_gpus, lambda host: intel_gpu.IntelDriver(host.sysfs, host.procfs, host.clock)
        ),
        is_present=lambda host: intel_gpu.has_gpus(host.sysfs),
    ),
    EnergySource(
        RaplCollector.name,
        _open_rapl,
        is_present=lambda host: not host.cpu.guest or has_zones(host.sysfs),
        absent_note="this virtual machine has no energy counters",
        may_be_stuck=True,
    ),
    EnergySource(
        hsmp.NAME,
        partial(_open_processor_power, hsmp.open_hsmp),
        is_present=lambda host: hsmp.has_sensors(host.sysfs),
        replaces=DeviceKind.CPU,
    ),
    EnergySource(
        xgene.NAME,
        partial(_open_processor_power, xgene.open_xgene),
        is_present=lambda host: xgene.has_sensors(host.sysfs),
        replaces=DeviceKind.CPU,
    ),
    EnergySource(
        acpi_power_meter.GRACE_NAME,
        _open_grace,
        is_present=lambda host: acpi_power_meter.has_grace_meters(host.sysfs),
        replaces=DeviceKind.CPU,
    ),
    EnergySource(CpuEstimateCollector.name, _open_cpu_estimate, replaces=DeviceKind.CPU),
    EnergySource(DramEstimateCollector.name, _open_dram_estimate, replaces=DeviceKind.DRAM),
    EnergySource(
        NodeQueryCollector.name,
        _open_node_query,
        is_present=lambda host: bool(host.node_query.url or host.node_query.query),
    ),
    EnergySource(
        pm_counters.NAME,
        partial(_open_node_meter, pm_counters.open_pm_counters),
        is_present=lambda host: pm_counters.has_counters(host.sysfs),
        replaces=DeviceKind.NODE,
    ),
    EnergySource(
        acpi_power_meter.NODE_NAME,
        _open_acpi_node,
        is_present=lambda host: acpi_power_meter.has_node_meter(host.sysfs),
        replaces=DeviceKind.NODE,
    ),
    EnergySource(
        board_power.NAME,
        partial(_open_node_meter, board_power.open_board_power),
        is_present=lambda host: board_power.has_sensor(host.sysfs),
        replaces=DeviceKind.NODE,
    ),
)
"""All sources in the order in which they are opened and read, replacements last."""
COLLECTOR_NAMES: tuple[str, ...] = tuple(source.name for source in SOURCES)
"""Collectors that can be enabled and disabled by name: the keys of `sample.collectors`."""


def open_collectors(
    *,
    sysfs: str,
    procfs: str,
    clock: Clock,
    boot_id: str,
    enabled: Mapping[str, bool],
    replay: str = "",
    cpu_idle_watts_per_thread: float | None = None,
    cpu_full_watts_per_thread: float | None = None,
    dram_watts_per_gb: float | None = None,
    node: str = "",
    node_query: NodeQuery = NO_NODE_QUERY,
) -> OpenedCollectors:
    """Open all collectors that work on this machine.

    Replacements are opened only for kinds of devices that no other source measures. `boot_id` is
    the result of `read_boot_id`. `enabled` enables or disables collectors by name; the default is
    enabled. `replay` is the path of a recorded host to replay instead. `node` is the name of the
    node. Raises ConfigError for invalid settings.
    """
    notes = [NO_BOOT_ID.format(procfs=procfs)] if boot_id.startswith(UNKNOWN_BOOT) else []
    if replay:
        from exporter.sample.sources.replay import ReplayCollector

        return OpenedCollectors(
            (ReplayCollector(replay, clock, boot_id),), (), (_replay_note(replay), *notes)
        )
    host = SourceContext(
        sysfs,
        procfs,
        clock,
        boot_id,
        read_cpuinfo(procfs),
        cpu_idle_watts_per_thread,
        cpu_full_watts_per_thread,
        dram_watts_per_gb,
        node,
        node_query,
    )
    opener = _SourceOpener(host, enabled, notes)
    for source in SOURCES:
        if source.replaces is None:
            opener.open(source)
    opener.check_module_counters()
    for source in SOURCES:
        if source.replaces is not None and source.replaces not in opener.kinds:
            opener.open(source)
    return opener.result()


class _SourceOpener:
    """Opens sources, and collects states and notes of those that fail."""

    def __init__(self, host: SourceContext, enabled: Mapping[str, bool], notes: list[str]) -> None:
        self.kinds: set[DeviceKind] = set()
        """Kinds of devices that the opened sources measure."""
        self._host = host
        self._enabled = enabled
        self._notes = notes
        self._opened: list[OpenedSource] = []
        self._states: list[CollectorState] = []
        self._node_collector: DeviceCollector | None = None
        self._node_lag = 0.0

    def open(self, source: EnergySource) -> None:
        """Open a source unless it is disabled or its hardware is not present."""
        if not self._enabled.get(source.name, True):
            return
        if source.name not in self._enabled and not source.is_present(self._host):
            if source.absent_note:
                self._notes.append(f"{source.name}: {source.absent_note}")
            return
        try:
            opened = source.open(self._host)
        except Unavailable as error:
            self._states.append(CollectorState(source.name, ok=False, seconds=0.0, why=str(error)))
            self._notes.append(f"{source.name}: {error}")
            return
        self.kinds.update(opened.kinds)
        self._notes += opened.notes
        if source.may_be_stuck:
            opened = opened._replace(
                collector=CollectorWithFallback(opened.collector, self._fallbacks(opened.kinds))
            )
        if DeviceKind.NODE in opened.kinds:
            self._node_collector, self._node_lag = opened.collector, opened.lag_seconds
        else:
            self._opened.append(opened)

    def check_module_counters(self) -> None:
        """Count the processors as measured if no source but the counters of modules covers them."""
        if self.kinds <= {DeviceKind.NODE} and any(opened.covers_host() for opened in self._opened):
            self.kinds |= {DeviceKind.CPU, DeviceKind.DRAM}
            self._notes.append(MODULE_COUNTERS)

    def result(self) -> OpenedCollectors:
        """Return the opened collectors, with states and notes."""
        if not self._opened:
            self._notes.append(
                "no energy is measured: every collector is disabled or not available"
            )
        return OpenedCollectors(
            tuple(opened.collector for opened in self._opened),
            tuple(self._states),
            tuple(self._notes),
            self._release_drivers,
            self._node_collector,
            self._node_lag,
        )

    def _release_drivers(self) -> None:
        for opened in self._opened:
            opened.release_driver()

    def _fallbacks(self, kinds: Collection[DeviceKind]) -> list[StuckCounterFallback]:
        """Return the fallbacks of the kinds to their last replacement, opened when needed."""
        replacements = {source.replaces: source for source in SOURCES if source.replaces in kinds}
        return [
            StuckCounterFallback(
                kind,
                partial(self._replacement, source)
                if self._enabled.get(source.name, True)
                else None,
                partial(read_busy_us, self._host.procfs),
            )
            for kind, source in replacements.items()
            if kind is not None
        ]

    def _replacement(self, source: EnergySource) -> DeviceCollector:
        return source.open(self._host).collector


def recorded_host_name(path: str) -> str:
    """Return the name of a recorded host, which is that of its file."""
    return os.path.basename(path).removesuffix(".json")


def _replay_note(path: str) -> str:
    return f"nothing is measured: replaying the recorded host {recorded_host_name(path)}"
