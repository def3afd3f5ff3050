"""RAPL: the energy counters of processor packages and their memory, from Linux powercap."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceInfo, Kind, Observation, Reading
from exporter.sample.kept_file import KeptFile

NAME = "rapl"

# `intel-rapl` is the driver's name on AMD too. `intel-rapl-mmio` shows the same counters again.
ZONE = re.compile(r"intel-rapl(:\d+){1,2}")
FALLBACK_CAP_WATTS = 1000.0

NO_ZONES = (
    "no intel-rapl zones under {sysfs}; load the kernel module (modprobe intel_rapl_msr). "
    "Most virtual machines have none"
)
DENIED = (
    "only root may read it since CVE-2020-8694: run as root or with CAP_DAC_READ_SEARCH, or let "
    'a group read it by the udev rule ACTION=="add", SUBSYSTEM=="powercap", RUN+="/bin/sh -c '
    "'cd /sys%p && chgrp emissions-exporter energy_uj && chmod 0440 energy_uj'\""
)


class Zone(NamedTuple):
    """One counter."""

    info: DeviceInfo
    energy: KeptFile


class Rapl:
    """Reads packages and dram; core and uncore are inside package, psys is no part of the sum.

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
        zones = tuple(_zones(sysfs, model, vendor))
        if not zones:
            raise Unavailable(NO_ZONES.format(sysfs=sysfs))
        readings = [self._read(zone) for zone in zones]
        kinds = {reading.device.kind for reading in readings if not reading.why}
        failed = [reading.why for reading in readings if reading.why]
        if not kinds:
            raise Unavailable(failed[0])
        self.notes = tuple(failed)
        """What cannot be read, and the remedy."""
        self._zones = tuple(zone for zone in zones if zone.info.device.kind in kinds)
        self.infos = tuple(zone.info for zone in self._zones)

    def read(self) -> Observation:
        """Every counter now, each at its own time."""
        began_ns = self._clock.monotonic_ns()
        at_ns = self._clock.boottime_ns()
        readings = tuple(self._read(zone) for zone in self._zones)
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self.infos,
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=next((reading.why for reading in readings if reading.why), ""),
        )

    def release(self) -> None:
        """Close every counter; a later read opens them again."""
        for zone in self._zones:
            zone.energy.close()

    def _read(self, zone: Zone) -> Reading:
        device = zone.info.device
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
            return Reading(device, self._clock.boottime_ns(), self._boot_id, counter_uj)
        return Reading(device, self._clock.boottime_ns(), self._boot_id, why=why)


def _zones(sysfs: str, model: str, vendor: str) -> Iterator[Zone]:
    """Packages in order of their zone numbers, each followed by its dram."""
    paths = _zone_paths(sysfs)
    taken: set[str] = set()
    for key in sorted(paths):
        name = _text(paths[key], "name")
        if len(key) > 1 or not name.startswith("package"):
            continue
        package = f"{name}-zone-{key[0]}" if name in taken else name
        taken.add(package)
        yield _zone(paths[key], Device(Kind.CPU, package), model, vendor)
        for child in sorted(paths):
            if child[:-1] == key and _text(paths[child], "name") == "dram":
                yield _zone(paths[child], Device(Kind.DRAM, f"{package}-dram"), "", "")


def _zone_paths(sysfs: str) -> dict[tuple[int, ...], str]:
    """Zone directories by zone numbers. Containers may mount the devices without the class."""
    paths: dict[tuple[int, ...], str] = {}
    for root in ("class/powercap", "devices/virtual/powercap/intel-rapl"):
        listed = _zone_directories(os.path.join(sysfs, root))
        nested = [path for zone in listed for path in _zone_directories(zone)]
        for path in (*listed, *nested):
            numbers = os.path.basename(path).split(":")[1:]
            paths.setdefault(tuple(map(int, numbers)), path)
    return paths


def _zone_directories(path: str) -> list[str]:
    try:
        names = os.listdir(path)
    except OSError:
        return []
    return [os.path.join(path, name) for name in names if ZONE.fullmatch(name)]


def _zone(path: str, device: Device, model: str, vendor: str) -> Zone:
    range_uj = _number(path, "max_energy_range_uj")
    limits_uw = [_number(path, f"constraint_{n}_power_limit_uw") for n in range(4)]
    # The limits bound means over seconds; a shorter interval may lie above them.
    cap_watts = 2 * max(limits_uw) / units.MICROWATTS_PER_WATT or FALLBACK_CAP_WATTS
    info = DeviceInfo(
        device=device,
        model=model,
        vendor=vendor,
        source=NAME,
        power_cap_watts=cap_watts,
        wrap_uj=range_uj + 1 if range_uj else None,
        power_limit_watts=limits_uw[0] / units.MICROWATTS_PER_WATT or None,
    )
    return Zone(info, KeptFile(os.path.join(path, "energy_uj")))


def _text(path: str, name: str) -> str:
    try:
        with open(os.path.join(path, name), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


def _number(path: str, name: str) -> int:
    """The number in a file of a zone; 0 where there is none."""
    text = _text(path, name)
    return int(text) if text.isdecimal() else 0
