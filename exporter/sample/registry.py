"""Which sources of energy are opened on this machine, and what is said of the others."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from exporter.clock import UNKNOWN_BOOT, Clock
from exporter.errors import Unavailable
from exporter.model.readings import Kind, Sampler
from exporter.model.workload import CollectorState
from exporter.privileges import READ_ANY_FILE, read_capabilities
from exporter.sample.coefficients import cpu_watts, dram_watts
from exporter.sample.cpuinfo import CpuInfo, read_cpuinfo
from exporter.sample.powercap import is_here as are_counters_here
from exporter.sample.sources.cpu_estimate import CpuEstimate, read_busy_us
from exporter.sample.sources.dram_estimate import DramEstimate
from exporter.sample.sources.nvml import Nvml, is_here
from exporter.sample.sources.rapl import Rapl
from exporter.sample.sources.replay import Replay
from exporter.sample.standby import CountersOrEstimates, Standby

NAMES: tuple[str, ...] = (Nvml.name, Rapl.name, CpuEstimate.name, DramEstimate.name)
"""The collectors that can be switched off and on by name."""

PAUSE_SECONDS = 300.0
"""How long the drivers are let go of when that is asked for."""
NO_BOOT_ID = (
    "{procfs}/sys/kernel/random/boot_id cannot be read, so energy used while the daemon is stopped "
    "is not recovered; mount procfs whole and name it with --path.procfs"
)


class Opened(NamedTuple):
    """What samples this machine."""

    samplers: tuple[Sampler, ...]
    states: tuple[CollectorState, ...]
    """Of the collectors that were wanted and could not be opened."""
    notes: tuple[str, ...]
    """What a person should know, with the remedy."""
    let_go: Callable[[], None] = lambda: None
    """Lets go of drivers for a while, so that a device can be reset."""


def open_samplers(
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
) -> Opened:
    """Open every source that works here; an estimate only for a kind that no counter covers.

    `boot_id` is what `read_boot_id` says. `enabled` switches collectors by name, on where it does
    not say. `replay` is the path of a host to play instead of all of them. Raises ConfigError for
    a setting that cannot be.
    """
    notes = [NO_BOOT_ID.format(procfs=procfs)] if boot_id.startswith(UNKNOWN_BOOT) else []
    if replay:
        return Opened((Replay(replay, clock, boot_id),), (), (_replays(replay), *notes))
    opening = _Opening(enabled, notes)
    nvml = None
    if enabled.get(Nvml.name) or is_here(sysfs):
        nvml = opening.attempt(Nvml.name, lambda: Nvml(sysfs, clock, boot_id))
    cpu = read_cpuinfo(procfs)
    is_privileged = not read_capabilities(procfs).isdisjoint(READ_ANY_FILE)
    rapl = opening.counters(
        sysfs,
        cpu,
        lambda: Rapl(sysfs, clock, boot_id, cpu.model, cpu.vendor, is_privileged=is_privileged),
    )
    kinds = {info.device.kind for info in rapl.infos} if rapl is not None else set()
    if not kinds and nvml is not None and nvml.covers_cpu():
        kinds = {Kind.CPU, Kind.DRAM}
        notes.append("cpu and dram energy are part of the GPUs': one counter has the whole module")
    watts = partial(cpu_watts, cpu, cpu_idle_watts_per_thread, cpu_full_watts_per_thread)
    dram = dram_watts(dram_watts_per_gb)

    def estimate_cpu() -> CpuEstimate:
        return CpuEstimate(procfs, clock, boot_id, cpu, watts())

    def estimate_dram() -> DramEstimate:
        return DramEstimate(procfs, clock, boot_id, dram.per_gb)

    if Kind.CPU not in kinds and opening.attempt(CpuEstimate.name, estimate_cpu):
        assumed = watts()
        notes.append(
            f"cpu energy is estimated, {assumed.idle_per_thread:.2f} W (idle) to "
            f"{assumed.full_per_thread:.2f} W (busy) per thread: {assumed.basis}"
        )
    if Kind.DRAM not in kinds and opening.attempt(DramEstimate.name, estimate_dram):
        notes.append(f"dram energy is estimated, {dram.per_gb:g} W per GB: {dram.basis}")
    if rapl is not None:
        estimates: dict[Kind, tuple[str, Callable[[], Sampler]]] = {
            Kind.CPU: (CpuEstimate.name, estimate_cpu),
            Kind.DRAM: (DramEstimate.name, estimate_dram),
        }
        standbys = [
            Standby(kind, build if enabled.get(name, True) else None, partial(read_busy_us, procfs))
            for kind, (name, build) in estimates.items()
            if kind in kinds
        ]
        opening.replace(rapl, CountersOrEstimates(rapl, standbys))
    if not opening.samplers:
        notes.append("no energy is measured: every collector is switched off or cannot work here")
    opened = Opened(tuple(opening.samplers), tuple(opening.states), tuple(notes))
    return opened if nvml is None else opened._replace(let_go=partial(nvml.pause, PAUSE_SECONDS))


SamplerT = TypeVar("SamplerT", bound=Sampler)


class _Opening:
    """Collects what could be opened, and what is to be said of the rest."""

    def __init__(self, enabled: Mapping[str, bool], notes: list[str]) -> None:
        self.samplers: list[Sampler] = []
        self.states: list[CollectorState] = []
        self._enabled = enabled
        self._notes = notes

    def attempt(self, name: str, build: Callable[[], SamplerT]) -> SamplerT | None:
        """The sampler, or None where it is switched off or cannot work."""
        if not self._enabled.get(name, True):
            return None
        try:
            sampler = build()
        except Unavailable as error:
            self.states.append(CollectorState(name, ok=False, seconds=0.0, why=str(error)))
            self._notes.append(f"{name}: {error}")
            return None
        self.samplers.append(sampler)
        return sampler

    def replace(self, sampler: Sampler, by: Sampler) -> None:
        """Read another sampler in the place of one that was opened."""
        self.samplers[self.samplers.index(sampler)] = by

    def counters(self, sysfs: str, cpu: CpuInfo, build: Callable[[], Rapl]) -> Rapl | None:
        """Those of processors; nothing is wrong with a virtual machine that has none."""
        if cpu.guest and Rapl.name not in self._enabled and not are_counters_here(sysfs):
            self._notes.append(f"{Rapl.name}: this virtual machine has no energy counters")
            return None
        rapl = self.attempt(Rapl.name, build)
        if rapl is not None:
            self._notes += (f"{rapl.name}: {note}" for note in rapl.notes)
        return rapl


def recorded_host(path: str) -> str:
    """The name of a recorded host: that of its file."""
    return os.path.basename(path).removesuffix(".json")


def _replays(path: str) -> str:
    return f"nothing is measured: the recorded host {recorded_host(path)} is played"
