"""Collector `rapl`: energy counters of processor packages and memory in Linux powercap."""

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
"""Changed readings that must agree for a duplicate; unchanged counters prove nothing."""
MIN_DIFFERENT_READINGS = 3
"""Consecutive readings that must differ: copies of a counter are updated one after the other."""
MAX_COPY_SKEW_UJ = 100_000_000
"""Maximum difference between two copies of a counter during an update: 0.1 s at 1 kW."""


class DuplicateCounterTest:
    """Tests whether two zones show the same counter, which wraps at `wrap_uj` if that is known."""

    def __init__(self, wrap_uj: int | None) -> None:
        self._wrap_uj = wrap_uj or 1 << 64
        self._last_uj: int | None = None
        self._moves_left = MIN_EQUAL_READINGS + 1
        self._differences = 0
        """Consecutive readings that differ."""

    def compare(self, before_uj: int, other_uj: int, after_uj: int) -> bool | None:
        """Return whether the counters are the same; None: not known yet.

        `other_uj` was read between two readings of the first counter, `before_uj` and `after_uj`.
        If the counters are the same, it lies between these values at any rate of the counter.
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
"""Interval at which the power limits are read again; they may be changed at runtime."""

EMPTY_RETRY_SECONDS = 0.001
"""Pause before an empty file is read again; a program on the host may be rewriting it."""
MAX_RETRIES = 50
"""Maximum number of these pauses per read of all files."""
MIN_RATE_INTERVAL_NS = units.NANOSECONDS_PER_SECOND // 10
"""Minimum interval for computing power, because counters are updated irregularly."""

DUPLICATE_NOTE = "{} repeats the counter of {}; it is ignored"
NO_ZONES = (
    "no intel-rapl zones under {sysfs}; load the kernel module (modprobe intel_rapl_msr). "
    "Most virtual machines have none"
)
NO_PACKAGE = (
    "none of the intel-rapl zones under {sysfs} is a processor package; found: {names}. psys "
    "covers the whole platform, and other zones are parts of a package. This processor has no "
    "package zone, and no kernel module can add one"
)
UNLISTABLE = (
    "{path} may not be listed by this user; run as root, or set --path.sysfs to a sysfs that the "
    "daemon may list"
)
DENIED = (
    "only root may read it since CVE-2020-8694: run as root or with CAP_DAC_READ_SEARCH, or grant "
    'a group access with the udev rule ACTION=="add", SUBSYSTEM=="powercap", RUN+="/bin/sh -c '
    "'cd /sys%p && chgrp emissions energy_uj && chmod 0440 energy_uj'\""
)
DENIED_TO_PRIVILEGED = (
    "permission denied although this process may read files of any mode: it runs in a user "
    "namespace (a rootless container), or a security module (AppArmor, SELinux) denies access; run "
    "the daemon outside of the container, or as root of the host"
)


@dataclass(eq=False, slots=True)
class DuplicateCandidate:
    """Zones of a package that may repeat the counter of an earlier package."""

    zones: tuple[PowercapZone, ...]
    """The package, then its dram."""
    comparisons: dict[PowercapZone, DuplicateCounterTest]
    """Tests by the earlier package that it is compared with."""
    never_read: bool
    """Whether the package has not been readable yet; it is then reported as not up."""
    held: tuple[Reading, ...] = ()
    """First readings of the zones, from which their energy counts if they are no duplicates."""

    def release(self) -> None:
        """Close their files."""
        for zone in self.zones:
            zone.energy.close()


@dataclass(slots=True)
class _CounterRate:
    """The last reading of a counter, from which its power is computed."""

    counter_uj: int
    awake_ns: int
    was_too_fast: bool = False


class RaplCollector:
    """Reads the zones `package` and `dram`.

    core and uncore are included in package; psys covers the platform and is ignored. Several
    packages may show the same counter: the dies of a socket on some processors, and all packages in
    guests of Xen. Duplicates are detected from the first readings. Until then, later packages with
    the value of an earlier one are held back: they are not devices yet, but lose no energy.

    `model` and `vendor` describe the processor, `boot_id` is that of the running kernel, and
    `pause` sleeps for some seconds. `is_privileged`: this process has a capability to read files of
    any mode. Raises Unavailable if there is no counter, or none is readable. If a counter of a kind
    is readable, unreadable ones of that kind are reported as devices that are not up.
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
        """Zones with files that stayed empty; they are not retried again."""
        self._rates: dict[PowercapZone, _CounterRate] = {}
        self._note = ""
        self._limits_ns = clock.monotonic_ns()
        zones = tuple(find_zones(sysfs, model, vendor, source=NAME))
        if not zones:
            raise Unavailable(_unavailable_reason(sysfs))
        readings = {zone: self._read(zone) for zone in zones}
        kinds = {reading.device.kind for reading in readings.values() if not reading.why}
        failed = [reading.why for reading in readings.values() if reading.why]
        if not kinds:
            raise Unavailable(failed[0])
        self.notes = tuple(failed)
        """Counters that cannot be read, with the remedy."""
        zones = tuple(zone for zone in zones if zone.info.device.kind in kinds)
        self._candidates = _duplicate_candidates(
            zones, {zone for zone in zones if readings[zone].why}
        )
        held_back = {zone for candidate in self._candidates for zone in candidate.zones}
        self._zones = tuple(zone for zone in zones if zone not in held_back)
        self._test_candidates(readings)
        # Restore the order of zone numbers after candidates were added.
        self._zones = tuple(zone for zone in zones if zone in self._zones)
        for candidate in self._candidates:
            candidate.held = ()

    @property
    def infos(self) -> tuple[DeviceInfo, ...]:
        """Devices that are counted, or cannot be read."""
        return tuple(zone.info for zone in (*self._zones, *self._unread()))

    def read(self) -> Observation:
        """Read every counter, each with its own time."""
        began_ns = self._clock.monotonic_ns()
        at_ns = self._clock.boottime_ns()
        if began_ns - self._limits_ns >= LIMITS_REFRESH_NS:
            self._limits_ns = began_ns
            for zone in self._zones:
                zone.refresh_limits()
        self._pauses_left = MAX_RETRIES
        # A candidate is read between two readings of every earlier package.
        tested = [zone for candidate in self._candidates for zone in candidate.zones]
        latest = {zone: self._read(zone) for zone in (*self._zones, *tested)}
        readings = [latest[zone] for zone in self._zones]
        if self._candidates:
            readings += self._test_candidates(latest)
            readings += (latest[zone] for zone in self._unread())
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
        """Close all files; a later read reopens them."""
        for zone in self._zones:
            zone.energy.close()
        for candidate in self._candidates:
            candidate.release()

    def _unread(self) -> list[PowercapZone]:
        return [
            zone
            for candidate in self._candidates
            if candidate.never_read
            for zone in candidate.zones
        ]

    def _test_candidates(self, latest: Mapping[PowercapZone, Reading]) -> list[Reading]:
        """Test the candidates by their `latest` readings.

        Returns all readings of the candidates that are found to have counters of their own.
        """
        firsts = dict.fromkeys(
            zone for candidate in self._candidates for zone in candidate.comparisons
        )
        again = {zone: self._read(zone).counter_uj for zone in firsts}
        accepted: list[Reading] = []
        for candidate in tuple(self._candidates):
            own_uj = latest[candidate.zones[0]].counter_uj
            if own_uj is None:
                continue
            candidate.never_read = False
            original = None
            for first, test in tuple(candidate.comparisons.items()):
                before_uj, after_uj = latest[first].counter_uj, again[first]
                if before_uj is None or after_uj is None:
                    continue
                is_same = test.compare(before_uj, own_uj, after_uj)
                if is_same:
                    original = first
                elif is_same is False:
                    del candidate.comparisons[first]
            if original is not None:
                self._remove_duplicate(candidate, original)
            elif not candidate.comparisons:
                self._candidates.remove(candidate)
                self._zones += candidate.zones
                accepted += (*candidate.held, *(latest[zone] for zone in candidate.zones))
            else:
                candidate.held = candidate.held or tuple(latest[zone] for zone in candidate.zones)
        return accepted

    def _remove_duplicate(self, candidate: DuplicateCandidate, original: PowercapZone) -> None:
        """Remove zones that repeat the counter of `original`; later ones are compared with it."""
        self._candidates.remove(candidate)
        candidate.release()
        for other in self._candidates:
            other.comparisons.pop(candidate.zones[0], None)
        note = DUPLICATE_NOTE.format(candidate.zones[0].info.device.id, original.info.device.id)
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
            why = f"{zone.energy.path}: does not contain a number"
        else:
            why = ""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        if counter_uj is not None:
            self._check_rate(zone, counter_uj, awake_ns)
        return Reading(device, at_ns, self._boot_id, counter_uj, why=why, awake_ns=awake_ns)

    def _text(self, zone: PowercapZone) -> bytes:
        """Return the content of a counter's file; retry briefly while it is empty."""
        text = zone.energy.read(32)
        while not text and self._pauses_left and zone not in self._empty:
            self._pauses_left -= 1
            self._pause(EMPTY_RETRY_SECONDS)
            text = zone.energy.read(32)
        (self._empty.discard if text else self._empty.add)(zone)
        return text

    def _check_rate(self, zone: PowercapZone, counter_uj: int, awake_ns: int) -> None:
        """Read the power limits again if a counter increases faster than they allow.

        Firmware may report limits that are not in force. If two consecutive intervals are above
        them, and each is plausible for a package, the bound of plausible power is raised.
        """
        rate = self._rates.setdefault(zone, _CounterRate(counter_uj, awake_ns))
        elapsed_ns = awake_ns - rate.awake_ns
        if elapsed_ns < MIN_RATE_INTERVAL_NS:
            return
        watts = units.watts(counter_uj - rate.counter_uj, elapsed_ns)
        rate.counter_uj, rate.awake_ns = counter_uj, awake_ns
        if watts <= zone.info.power_cap_watts:
            rate.was_too_fast = False
            return
        zone.refresh_limits()
        is_plausible = zone.info.power_cap_watts < watts <= FALLBACK_CAP_WATTS
        if is_plausible and rate.was_too_fast:
            log.warning(
                "power above the reported limits; limits ignored",
                extra={"device": zone.info.device.id, "watts": round(watts)},
            )
            zone.info = zone.info._replace(power_cap_watts=FALLBACK_CAP_WATTS)
        rate.was_too_fast = is_plausible


def _unavailable_reason(sysfs: str) -> str:
    """Return why no zone can be used."""
    path = unlistable_directory(sysfs)
    if path:
        return UNLISTABLE.format(path=path)
    names = zone_names(sysfs)
    if names:
        return NO_PACKAGE.format(sysfs=sysfs, names=", ".join(names))
    return NO_ZONES.format(sysfs=sysfs)


def _duplicate_candidates(
    zones: Sequence[PowercapZone], unread: Collection[PowercapZone]
) -> list[DuplicateCandidate]:
    """Return all packages except the first, each with its dram; unreadable ones come last."""
    packages = [zone for zone in zones if zone.info.device.kind is DeviceKind.CPU]
    packages.sort(key=unread.__contains__)
    candidates = []
    for number, package in enumerate(packages[1:], 1):
        dram_id = f"{package.info.device.id}-dram"
        dram = (zone for zone in zones if zone.info.device.id == dram_id)
        comparisons = {
            first: DuplicateCounterTest(first.info.wrap_uj) for first in packages[:number]
        }
        candidates.append(DuplicateCandidate((package, *dram), comparisons, package in unread))
    return candidates
