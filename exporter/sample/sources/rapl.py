"""RAPL: the energy counters of processor packages and their memory, from Linux powercap."""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import DeviceInfo, DeviceKind, Observation, Reading
from exporter.sample.powercap import (
    FALLBACK_CAP_WATTS,
    PowercapZone,
    find_zones,
    unlistable_directory,
    zone_names,
)

MIN_EQUAL_READINGS = 10
"""So many readings that moved must agree; a counter that stands still proves nothing."""
MIN_DIFFERENT_READINGS = 3
"""So many readings in a row must differ: copies of a counter are written one after the other."""
MAX_COPY_SKEW_UJ = 100_000_000
"""A difference beyond what any package uses between the writing of two copies: 0.1 s at 1 kW."""


class DuplicateCounterTest:
    """Compares a counter with a `first` one, which starts again at `wrap_uj` if that is known."""

    def __init__(self, wrap_uj: int | None) -> None:
        self._wrap_uj = wrap_uj or 1 << 64
        self._last_uj: int | None = None
        self._moves_left = MIN_EQUAL_READINGS + 1
        self._differences = 0
        """Of the last readings in a row."""

    def compare(self, before_uj: int, other_uj: int, after_uj: int) -> bool | None:
        """Whether the counters are one; None: not known yet.

        `other_uj` was read between two readings of the first counter. If it is the same one, it
        lies between their values, however fast the counter runs.
        """
        ahead_uj = (other_uj - after_uj) % self._wrap_uj
        behind_uj = (before_uj - other_uj) % self._wrap_uj
        if (other_uj - before_uj) % self._wrap_uj > (after_uj - before_uj) % self._wrap_uj:
            self._differences += 1
            is_far = min(ahead_uj, behind_uj) > MAX_COPY_SKEW_UJ
            return False if is_far or self._differences == MIN_DIFFERENT_READINGS else None
        self._differences = 0
        if before_uj != self._last_uj:
            self._last_uj = before_uj
            self._moves_left -= 1
        return True if self._moves_left == 0 else None


log = logging.getLogger(__name__)

NAME = "rapl"
LIMITS_REFRESH_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How often the power limits are read again, which may be set while the daemon runs."""

EMPTY_RETRY_SECONDS = 0.001
"""Pause before a file is read again that is empty, as while a program of the host rewrites it."""
MAX_RETRIES = 50
"""At most so many of these pauses for all files together at a time."""
MIN_RATE_INTERVAL_NS = units.NANOSECONDS_PER_SECOND // 10
"""Counters tick unevenly, so the power over a shorter interval is not known."""

DUPLICATE_NOTE = "{} shows the counter of {} again; it is left out"
NO_ZONES = (
    "no intel-rapl zones under {sysfs}; load the kernel module (modprobe intel_rapl_msr). "
    "Most virtual machines have none"
)
NO_PACKAGE = (
    "none of the intel-rapl zones under {sysfs} counts a processor package, only: {names}. psys "
    "counts the whole platform and is no processor's energy, and the other zones are parts of a "
    "package. No module adds a package zone where the processor has none"
)
UNLISTABLE = (
    "{path} may not be listed by this user, so nobody knows what is there; run as root, or give "
    "the daemon a sysfs that it may list and name it with --path.sysfs"
)
DENIED = (
    "only root may read it since CVE-2020-8694: run as root or with CAP_DAC_READ_SEARCH, or let "
    'a group read it by the udev rule ACTION=="add", SUBSYSTEM=="powercap", RUN+="/bin/sh -c '
    "'cd /sys%p && chgrp emissions energy_uj && chmod 0440 energy_uj'\""
)
DENIED_TO_PRIVILEGED = (
    "permission denied although this process may read files of any mode: it is in a user namespace "
    "of its own (a rootless container), or a security module (AppArmor, SELinux) denies it; run "
    "the daemon outside of the container, or as root of the host"
)


@dataclass(eq=False, slots=True)
class DuplicateCandidate:
    """Zones of a package that may show the counter of a package before it again."""

    zones: tuple[PowercapZone, ...]
    """The package, then its dram."""
    comparisons: dict[PowercapZone, DuplicateCounterTest]
    """By the packages whose counter it may be."""
    never_read: bool
    """The package could not be read yet, so that it is shown as a device that is not up."""
    held: tuple[Reading, ...] = ()
    """Their first readings, from which their energy counts if they are found to be their own."""

    def release(self) -> None:
        """Close their files."""
        for zone in self.zones:
            zone.energy.close()


@dataclass(slots=True)
class _CounterRate:
    """The last reading of a counter, to see how fast it runs."""

    counter_uj: int
    awake_ns: int
    was_too_fast: bool = False


class RaplCollector:
    """Reads packages and dram; core and uncore are inside package, psys is no part of the sum.

    The zones of several packages may show one and the same counter: those of the dies of a
    socket on some processors, and those of all packages in guests of Xen. Whether they do is found
    out from the first readings. Until then later packages with the value of an earlier one are
    held back: they are no devices yet, but lose nothing.

    `model` and `vendor` are those of the processor, `boot_id` is that of the running kernel, and
    `pause` sleeps for some seconds. `is_privileged` says that this process has a capability to read
    files of any mode. Raises Unavailable where there is no counter, or none that may
    be read. A kind of which one counter can be read shows its unreadable ones as devices that are
    not up.
    """

    name = NAME

    def __init__(
        self,
        sysfs: str,
        clock: Clock,
        boot_id: str,
        model: str = "",
        vendor: str = "",
        pause: Callable[[float], None] = time.sleep,
        *,
        is_privileged: bool = False,
    ) -> None:
        self._denied = DENIED_TO_PRIVILEGED if is_privileged else DENIED
        self._clock = clock
        self._boot_id = boot_id
        self._pause = pause
        self._pauses_left = MAX_RETRIES
        self._empty: set[PowercapZone] = set()
        """Whose files stayed empty, and are not waited for any more."""
        self._paces: dict[PowercapZone, _CounterRate] = {}
        self._note = ""
        self._limits_ns = clock.monotonic_ns()
        zones = tuple(find_zones(sysfs, model, vendor, source=NAME))
        if not zones:
            raise Unavailable(_why_none(sysfs))
        readings = {zone: self._read(zone) for zone in zones}
        kinds = {reading.device.kind for reading in readings.values() if not reading.why}
        failed = [reading.why for reading in readings.values() if reading.why]
        if not kinds:
            raise Unavailable(failed[0])
        self.notes = tuple(failed)
        """What cannot be read, and the remedy."""
        zones = tuple(zone for zone in zones if zone.info.device.kind in kinds)
        self._suspects = _duplicate_candidates(
            zones, {zone for zone in zones if readings[zone].why}
        )
        held_back = {zone for suspect in self._suspects for zone in suspect.zones}
        self._zones = tuple(zone for zone in zones if zone not in held_back)
        self._try_suspects(readings)
        # Packages in order of their zone numbers, though some were acquitted only now.
        self._zones = tuple(zone for zone in zones if zone in self._zones)
        for suspect in self._suspects:
            suspect.held = ()

    @property
    def infos(self) -> tuple[DeviceInfo, ...]:
        """What is counted as a device of its own, or cannot be read."""
        return tuple(zone.info for zone in (*self._zones, *self._unread()))

    def read(self) -> Observation:
        """Every counter now, each at its own time."""
        began_ns = self._clock.monotonic_ns()
        at_ns = self._clock.boottime_ns()
        if began_ns - self._limits_ns >= LIMITS_REFRESH_NS:
            self._limits_ns = began_ns
            for zone in self._zones:
                zone.refresh_limits()
        self._pauses_left = MAX_RETRIES
        # A suspect is read between two readings of every package before it.
        on_trial = [zone for suspect in self._suspects for zone in suspect.zones]
        looks = {zone: self._read(zone) for zone in (*self._zones, *on_trial)}
        readings = [looks[zone] for zone in self._zones]
        if self._suspects:
            readings += self._try_suspects(looks)
            readings += (looks[zone] for zone in self._unread())
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(readings),
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=next((reading.why for reading in readings if reading.why), ""),
            note=self._note,
        )

    def release(self) -> None:
        """Close every counter; a later read opens them again."""
        for zone in self._zones:
            zone.energy.close()
        for suspect in self._suspects:
            suspect.release()

    def _unread(self) -> list[PowercapZone]:
        return [zone for suspect in self._suspects if suspect.never_read for zone in suspect.zones]

    def _try_suspects(self, looks: Mapping[PowercapZone, Reading]) -> list[Reading]:
        """Judge zones on trial by `looks`; all readings of those that are acquitted."""
        firsts = dict.fromkeys(zone for suspect in self._suspects for zone in suspect.comparisons)
        again = {zone: self._read(zone).counter_uj for zone in firsts}
        freed: list[Reading] = []
        for suspect in tuple(self._suspects):
            own_uj = looks[suspect.zones[0]].counter_uj
            if own_uj is None:
                continue
            suspect.never_read = False
            mirrored = None
            for first, trial in tuple(suspect.comparisons.items()):
                before_uj, after_uj = looks[first].counter_uj, again[first]
                if before_uj is None or after_uj is None:
                    continue
                same = trial.compare(before_uj, own_uj, after_uj)
                if same:
                    mirrored = first
                elif same is False:
                    del suspect.comparisons[first]
            if mirrored is not None:
                self._leave_out(suspect, mirrored)
            elif not suspect.comparisons:
                self._suspects.remove(suspect)
                self._zones += suspect.zones
                freed += (*suspect.held, *(looks[zone] for zone in suspect.zones))
            else:
                suspect.held = suspect.held or tuple(looks[zone] for zone in suspect.zones)
        return freed

    def _leave_out(self, suspect: DuplicateCandidate, first: PowercapZone) -> None:
        """Forget zones that show the counter of `first`, to which all later ones are compared."""
        self._suspects.remove(suspect)
        suspect.release()
        for other in self._suspects:
            other.comparisons.pop(suspect.zones[0], None)
        note = DUPLICATE_NOTE.format(suspect.zones[0].info.device.id, first.info.device.id)
        log.warning(note)
        self._note = f"{self._note}; {note}" if self._note else note

    def _read(self, zone: PowercapZone) -> Reading:
        device, counter_uj = zone.info.device, None
        try:
            counter_uj = int(self._text(zone))
        except PermissionError:
            why = f"{zone.energy.path}: {self._denied}"
        except OSError as error:
            why = f"{zone.energy.path}: {error.strerror}"
        except ValueError:
            zone.energy.close()
            why = f"{zone.energy.path}: does not hold a number"
        else:
            why = ""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        if counter_uj is not None:
            self._follow(zone, counter_uj, awake_ns)
        return Reading(device, at_ns, self._boot_id, counter_uj, why=why, awake_ns=awake_ns)

    def _text(self, zone: PowercapZone) -> bytes:
        """What a counter's file holds; one that is empty for a moment is waited for."""
        text = zone.energy.read(32)
        while not text and self._pauses_left and zone not in self._empty:
            self._pauses_left -= 1
            self._pause(EMPTY_RETRY_SECONDS)
            text = zone.energy.read(32)
        (self._empty.discard if text else self._empty.add)(zone)
        return text

    def _follow(self, zone: PowercapZone, counter_uj: int, awake_ns: int) -> None:
        """Look at the limits again where a counter runs faster than they explain.

        Firmware also reports limits that are not in force. Where two intervals in a row are above
        them and each is possible for a package, the counter is believed.
        """
        pace = self._paces.setdefault(zone, _CounterRate(counter_uj, awake_ns))
        elapsed_ns = awake_ns - pace.awake_ns
        if elapsed_ns < MIN_RATE_INTERVAL_NS:
            return
        watts = units.watts(counter_uj - pace.counter_uj, elapsed_ns)
        pace.counter_uj, pace.awake_ns = counter_uj, awake_ns
        if watts <= zone.info.power_cap_watts:
            pace.was_too_fast = False
            return
        zone.refresh_limits()
        possible = zone.info.power_cap_watts < watts <= FALLBACK_CAP_WATTS
        if possible and pace.was_too_fast:
            log.warning(
                "%s uses %.0f W, which its power limits rule out; the counter is believed",
                zone.info.device.id,
                watts,
            )
            zone.info = zone.info._replace(power_cap_watts=FALLBACK_CAP_WATTS)
        pace.was_too_fast = possible


def _why_none(sysfs: str) -> str:
    """Why no zone can be used."""
    path = unlistable_directory(sysfs)
    if path:
        return UNLISTABLE.format(path=path)
    found = zone_names(sysfs)
    if found:
        return NO_PACKAGE.format(sysfs=sysfs, names=", ".join(found))
    return NO_ZONES.format(sysfs=sysfs)


def _duplicate_candidates(
    zones: Sequence[PowercapZone], unread: Collection[PowercapZone]
) -> list[DuplicateCandidate]:
    """All packages but the first, each with its dram; those that cannot be read come last."""
    packages = [zone for zone in zones if zone.info.device.kind is DeviceKind.CPU]
    packages.sort(key=unread.__contains__)
    suspects = []
    for number, package in enumerate(packages[1:], 1):
        dram_id = f"{package.info.device.id}-dram"
        dram = (zone for zone in zones if zone.info.device.id == dram_id)
        comparisons = {
            first: DuplicateCounterTest(first.info.wrap_uj) for first in packages[:number]
        }
        suspects.append(DuplicateCandidate((package, *dram), comparisons, package in unread))
    return suspects
