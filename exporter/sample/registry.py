"""Which sources of energy are opened on this machine, and what is said of the others."""

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
"""The collectors that can be switched off and on by name."""

RELEASE_SECONDS = 300.0
"""How long the drivers are let go of when that is asked for."""
NO_BOOT_ID = (
    "{procfs}/sys/kernel/random/boot_id cannot be read, so energy used while the daemon is stopped "
    "is not recovered; mount procfs whole and name it with --path.procfs"
)


class OpenedCollectors(NamedTuple):
    """What samples this machine."""

    device_collectors: tuple[DeviceCollector, ...]
    states: tuple[CollectorState, ...]
    """Of the collectors that were wanted and could not be opened."""
    notes: tuple[str, ...]
    """What a person should know, with the remedy."""
    release_driver: Callable[[], None] = lambda: None
    """Lets go of drivers for a while, so that a device can be reset."""


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
    """Open every source that works here; an estimate only for a kind that no counter covers.

    `boot_id` is what `read_boot_id` says. `enabled` switches collectors by name, on where it does
    not say. `replay` is the path of a host to play instead of all of them. Raises ConfigError for
    a setting that cannot be.
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
        notes.append("cpu and dram energy are part of the GPUs': one counter has the whole module")
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
        standbys = [
            StuckCounterFallback(
                kind, build if enabled.get(name, True) else None, partial(read_busy_us, procfs)
            )
            for kind, (name, build) in estimates.items()
            if kind in kinds
        ]
        opening.replace(rapl, CollectorWithFallback(rapl, standbys))
    if not opening.device_collectors:
        notes.append("no energy is measured: every collector is switched off or cannot work here")
    opened = OpenedCollectors(tuple(opening.device_collectors), tuple(opening.states), tuple(notes))
    return (
        opened
        if nvml is None
        else opened._replace(release_driver=partial(nvml.release_for, RELEASE_SECONDS))
    )


CollectorT = TypeVar("CollectorT", bound=DeviceCollector)


class _CollectorOpener:
    """Collects what could be opened, and what is to be said of the rest."""

    def __init__(self, enabled: Mapping[str, bool], notes: list[str]) -> None:
        self.device_collectors: list[DeviceCollector] = []
        self.states: list[CollectorState] = []
        self._enabled = enabled
        self._notes = notes

    def attempt(self, name: str, build: Callable[[], CollectorT]) -> CollectorT | None:
        """The sampler, or None where it is switched off or cannot work."""
        if not self._enabled.get(name, True):
            return None
        try:
            sampler = build()
        except Unavailable as error:
            self.states.append(CollectorState(name, ok=False, seconds=0.0, why=str(error)))
            self._notes.append(f"{name}: {error}")
            return None
        self.device_collectors.append(sampler)
        return sampler

    def replace(self, sampler: DeviceCollector, by: DeviceCollector) -> None:
        """Read another sampler in the place of one that was opened."""
        self.device_collectors[self.device_collectors.index(sampler)] = by

    def counters(
        self, sysfs: str, cpu: CpuInfo, build: Callable[[], RaplCollector]
    ) -> RaplCollector | None:
        """Those of processors; nothing is wrong with a virtual machine that has none."""
        if cpu.guest and RaplCollector.name not in self._enabled and not are_counters_here(sysfs):
            self._notes.append(f"{RaplCollector.name}: this virtual machine has no energy counters")
            return None
        rapl = self.attempt(RaplCollector.name, build)
        if rapl is not None:
            self._notes += (f"{rapl.name}: {note}" for note in rapl.notes)
        return rapl


def recorded_host_name(path: str) -> str:
    """The name of a recorded host: that of its file."""
    return os.path.basename(path).removesuffix(".json")


def _replay_note(path: str) -> str:
    return f"nothing is measured: the recorded host {recorded_host_name(path)} is played"
