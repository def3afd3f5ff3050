"""RAPL: the energy counters of processor packages and their memory, from Linux powercap."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Kind, Observation, Reading
from exporter.sample.mirror import MirrorTrial
from exporter.sample.powercap import Zone, find_zones, hidden

log = logging.getLogger(__name__)

NAME = "rapl"

SOCKET = re.compile(r"package-\d+")
"""What the names of all dies of one socket begin with."""
NO_ZONES = (
    "no intel-rapl zones under {sysfs}; load the kernel module (modprobe intel_rapl_msr). "
    "Most virtual machines have none"
)
HIDDEN = (
    "{path} may not be listed by this user, so nobody knows what is there; run as root, or give "
    "the daemon a sysfs that it may list and name it with --path.sysfs"
)
DENIED = (
    "only root may read it since CVE-2020-8694: run as root or with CAP_DAC_READ_SEARCH, or let "
    'a group read it by the udev rule ACTION=="add", SUBSYSTEM=="powercap", RUN+="/bin/sh -c '
    "'cd /sys%p && chgrp emissions energy_uj && chmod 0440 energy_uj'\""
)


@dataclass
class Suspect:
    """Zones of a package that may show the counter of the `first` one of their socket again."""

    first: Zone
    zones: tuple[Zone, ...]
    """The package, then its dram."""
    trial: MirrorTrial
    held: tuple[Reading, ...] = ()
    """Their first readings, from which their energy counts if they are found to be their own."""

    def release(self) -> None:
        """Close their files."""
        for zone in self.zones:
            zone.energy.close()


class Rapl:
    """Reads packages and dram; core and uncore are inside package, psys is no part of the sum.

    Processors of several dies have a package zone per die. Some count each die, others show the
    socket's one counter for every die; which it is, is found out from the first readings. Until
    then the later dies are held back: they are no devices yet, but lose nothing.

    `model` and `vendor` are those of the processor, `boot_id` is that of the running kernel.
    Raises Unavailable where there is no counter, or none that may be read. A kind of which one
    counter can be read shows its unreadable ones as devices that are not up.
    """

    name = NAME

    def __init__(
        self, sysfs: str, clock: Clock, boot_id: str, model: str = "", vendor: str = ""
    ) -> None:
        self._clock = clock
        self._boot_id = boot_id
        zones = tuple(find_zones(sysfs, model, vendor, source=NAME))
        if not zones:
            path = hidden(sysfs)
            raise Unavailable(HIDDEN.format(path=path) if path else NO_ZONES.format(sysfs=sysfs))
        readings = [self._read(zone) for zone in zones]
        kinds = {reading.device.kind for reading in readings if not reading.why}
        failed = [reading.why for reading in readings if reading.why]
        if not kinds:
            raise Unavailable(failed[0])
        self.notes = tuple(failed)
        """What cannot be read, and the remedy."""
        zones = tuple(zone for zone in zones if zone.info.device.kind in kinds)
        self._suspects = _suspects(zones)
        held_back = {zone for suspect in self._suspects for zone in suspect.zones}
        self._zones = tuple(zone for zone in zones if zone not in held_back)
        self.infos = tuple(zone.info for zone in self._zones)

    def read(self) -> Observation:
        """Every counter now, each at its own time."""
        began_ns = self._clock.monotonic_ns()
        at_ns = self._clock.boottime_ns()
        readings = [self._read(zone) for zone in self._zones]
        for suspect in tuple(self._suspects):
            readings += self._try(suspect)
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=tuple(readings),
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=next((reading.why for reading in readings if reading.why), ""),
        )

    def release(self) -> None:
        """Close every counter; a later read opens them again."""
        for zone in self._zones:
            zone.energy.close()
        for suspect in self._suspects:
            suspect.release()

    def _try(self, suspect: Suspect) -> Sequence[Reading]:
        """One more look at zones on trial; all their readings as soon as they are acquitted."""
        before = self._read(suspect.first).counter_uj
        own = tuple(self._read(zone) for zone in suspect.zones)
        after = self._read(suspect.first).counter_uj
        counter_uj = own[0].counter_uj
        if before is None or counter_uj is None or after is None:
            return ()
        same = suspect.trial.judge(before, counter_uj, after)
        if same is None:
            suspect.held = suspect.held or own
            return ()
        self._suspects.remove(suspect)
        if same:
            suspect.release()
            log.warning(
                "%s shows the counter of %s again; it is left out",
                suspect.zones[0].info.device.id,
                suspect.first.info.device.id,
            )
            return ()
        self._zones += suspect.zones
        self.infos = tuple(zone.info for zone in self._zones)
        return suspect.held + own

    def _read(self, zone: Zone) -> Reading:
        device, counter_uj = zone.info.device, None
        try:
            counter_uj = int(zone.energy.read(32))
        except PermissionError:
            why = f"{zone.energy.path}: {DENIED}"
        except OSError as error:
            why = f"{zone.energy.path}: {error.strerror}"
        except ValueError:
            zone.energy.close()
            why = f"{zone.energy.path}: does not hold a number"
        else:
            why = ""
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        return Reading(device, at_ns, self._boot_id, counter_uj, why=why, awake_ns=awake_ns)


def _suspects(zones: Sequence[Zone]) -> list[Suspect]:
    """All but the first package of each socket, each with its dram."""
    firsts: dict[str, Zone] = {}
    suspects = []
    for package in zones:
        device = package.info.device
        if device.kind is not Kind.CPU:
            continue
        named = SOCKET.match(device.id)
        first = firsts.setdefault(named[0] if named else device.id, package)
        if first is not package:
            dram = (zone for zone in zones if zone.info.device.id == f"{device.id}-dram")
            trial = MirrorTrial(first.info.wrap_uj)
            suspects.append(Suspect(first, (package, *dram), trial))
    return suspects
