"""Registry of device collectors: opens those that work on this machine."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from exporter.clock import UNKNOWN_BOOT, Clock
from exporter.errors import Unavailable
from exporter.model.readings import DeviceCollector, DeviceKind
from exporter.model.workload import CollectorState
from exporter.privileges import READ_ANY_FILE, read_capabilities
from exporter.sample.counter_fallback import CollectorWithFallback, StuckCounterFallback
from exporter.sample.power_model import CpuInfo, cpu_power_model, dram_power_model, read_cpuinfo
from exporter.sample.powercap import has_zones as are_counters_here
from exporter.sample.sources.cpu_estimate import CpuEstimateCollector, read_busy_us
from exporter.sample.sources.dram_estimate import DramEstimateCollector
from exporter.sample.sources.nvml import NvmlCollector, has_gpu_or_library
from exporter.sample.sources.rapl import RaplCollector
from exporter.sample.sources.replay import ReplayCollector

COLLECTOR_NAMES: tuple[str, ...] = (
    NvmlCollector.name,
    RaplCollector.name,
    CpuEstimateCollector.name,
    DramEstimateCollector.name,
)
"""Collectors that can be enabled and disabled by name."""

RELEASE_SECONDS = 300.0
"""Time for which drivers are released on request."""
NO_BOOT_ID = (
    "{procfs}/sys/kernel/random/boot_id cannot be read, so energy used while the daemon is stopped "
    "is not recovered; mount all of procfs and set --path.procfs to the mount point"
)


class OpenedCollectors(NamedTuple):
    """The collectors of this machine."""

    device_collectors: tuple[DeviceCollector, ...]
    states: tuple[CollectorState, ...]
    """States of enabled collectors that could not be opened."""
    notes: tuple[str, ...]
    """Notes for the operator, with the remedy."""
    release_driver: Callable[[], None] = lambda: None
    """Releases the drivers temporarily, so that a device can be reset."""


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
) -> OpenedCollectors:
    """Open all collectors that work on this machine.

    Estimates are opened only for kinds of devices without a counter. `boot_id` is the result of
    `read_boot_id`. `enabled` enables or disables collectors by name; the default is enabled.
    `replay` is the path of a recorded host to replay instead. Raises ConfigError for invalid
    settings.
    """
    notes = [NO_BOOT_ID.format(procfs=procfs)] if boot_id.startswith(UNKNOWN_BOOT) else []
    if replay:
        return OpenedCollectors(
            (ReplayCollector(replay, clock, boot_id),), (), (_replay_note(replay), *notes)
        )
    opening = _CollectorOpener(enabled, notes)
    nvml = None
    if enabled.get(NvmlCollector.name) or has_gpu_or_library(sysfs):
        nvml = opening.attempt(NvmlCollector.name, lambda: NvmlCollector(sysfs, clock, boot_id))
    cpu = read_cpuinfo(procfs)
    is_privileged = not read_capabilities(procfs).isdisjoint(READ_ANY_FILE)
    rapl = opening.counters(
        sysfs,
        cpu,
        lambda: RaplCollector(
            sysfs, clock, boot_id, cpu.model, cpu.vendor, is_privileged=is_privileged
        ),
    )
    kinds = {info.device.kind for info in rapl.infos} if rapl is not None else set()
    if not kinds and nvml is not None and nvml.covers_cpu():
        kinds = {DeviceKind.CPU, DeviceKind.DRAM}
        notes.append(
            "cpu and dram energy are included in that of the GPUs: their counters cover the whole "
            "module"
        )
    watts = partial(cpu_power_model, cpu, cpu_idle_watts_per_thread, cpu_full_watts_per_thread)
    dram = dram_power_model(dram_watts_per_gb)

    def estimate_cpu() -> CpuEstimateCollector:
        return CpuEstimateCollector(procfs, clock, boot_id, cpu, watts())

    def estimate_dram() -> DramEstimateCollector:
        return DramEstimateCollector(procfs, clock, boot_id, dram.per_gb)

    if DeviceKind.CPU not in kinds and opening.attempt(CpuEstimateCollector.name, estimate_cpu):
        assumed = watts()
        notes.append(
            f"cpu energy is estimated, {assumed.idle_per_thread:.2f} W (idle) to "
            f"{assumed.full_per_thread:.2f} W (busy) per thread: {assumed.basis}"
        )
    if DeviceKind.DRAM not in kinds and opening.attempt(DramEstimateCollector.name, estimate_dram):
        notes.append(f"dram energy is estimated, {dram.per_gb:g} W per GB: {dram.basis}")
    if rapl is not None:
        estimates: dict[DeviceKind, tuple[str, Callable[[], DeviceCollector]]] = {
            DeviceKind.CPU: (CpuEstimateCollector.name, estimate_cpu),
            DeviceKind.DRAM: (DramEstimateCollector.name, estimate_dram),
        }
        fallbacks = [
            StuckCounterFallback(
                kind, build if enabled.get(name, True) else None, partial(read_busy_us, procfs)
            )
            for kind, (name, build) in estimates.items()
            if kind in kinds
        ]
        opening.replace(rapl, CollectorWithFallback(rapl, fallbacks))
    if not opening.device_collectors:
        notes.append("no energy is measured: every collector is disabled or not available")
    opened = OpenedCollectors(tuple(opening.device_collectors), tuple(opening.states), tuple(notes))
    return (
        opened
        if nvml is None
        else opened._replace(release_driver=partial(nvml.release_for, RELEASE_SECONDS))
    )


CollectorT = TypeVar("CollectorT", bound=DeviceCollector)


class _CollectorOpener:
    """Opens collectors, and collects states and notes of those that fail."""

    def __init__(self, enabled: Mapping[str, bool], notes: list[str]) -> None:
        self.device_collectors: list[DeviceCollector] = []
        self.states: list[CollectorState] = []
        self._enabled = enabled
        self._notes = notes

    def attempt(self, name: str, build: Callable[[], CollectorT]) -> CollectorT | None:
        """Open a collector; return None if it is disabled or not available."""
        if not self._enabled.get(name, True):
            return None
        try:
            collector = build()
        except Unavailable as error:
            self.states.append(CollectorState(name, ok=False, seconds=0.0, why=str(error)))
            self._notes.append(f"{name}: {error}")
            return None
        self.device_collectors.append(collector)
        return collector

    def replace(self, collector: DeviceCollector, by: DeviceCollector) -> None:
        """Replace an open collector."""
        self.device_collectors[self.device_collectors.index(collector)] = by

    def counters(
        self, sysfs: str, cpu: CpuInfo, build: Callable[[], RaplCollector]
    ) -> RaplCollector | None:
        """Open the counters of processors; in a virtual machine, their absence is no failure."""
        if cpu.guest and RaplCollector.name not in self._enabled and not are_counters_here(sysfs):
            self._notes.append(f"{RaplCollector.name}: this virtual machine has no energy counters")
            return None
        rapl = self.attempt(RaplCollector.name, build)
        if rapl is not None:
            self._notes += (f"{rapl.name}: {note}" for note in rapl.notes)
        return rapl


def recorded_host_name(path: str) -> str:
    """Return the name of a recorded host, which is that of its file."""
    return os.path.basename(path).removesuffix(".json")


def _replay_note(path: str) -> str:
    return f"nothing is measured: replaying the recorded host {recorded_host_name(path)}"
