"""Zones of the Linux powercap interface that count energy of processor packages and memory."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from exporter import units
from exporter.model.readings import Device, DeviceInfo, DeviceKind
from exporter.sample.kernel_files import ReusedFile, read_text

# The driver is named `intel-rapl` on AMD too. `intel-rapl-mmio` repeats the same counters.
NUMBER = re.compile("[0-9]{1,20}")
ZONE = re.compile(r"intel-rapl(:\d+){1,2}")
ROOTS = ("class/powercap", "devices/virtual/powercap/intel-rapl")
FALLBACK_CAP_WATTS = 1000.0


@dataclass(eq=False, slots=True)
class PowercapZone:
    """A powercap zone with an energy counter."""

    info: DeviceInfo
    path: str
    energy: ReusedFile

    def refresh_limits(self) -> None:
        """Read the power limits again and raise the bound of plausible power accordingly.

        The bound never decreases, because energy used under the higher limit may not be read yet.
        """
        cap_watts, limit_watts = _limits(self.path)
        self.info = self.info._replace(
            power_cap_watts=max(self.info.power_cap_watts, cap_watts),
            power_limit_watts=limit_watts,
        )


def find_zones(sysfs: str, model: str, vendor: str, source: str) -> Iterator[PowercapZone]:
    """Yield the packages in order of their zone numbers, each followed by its dram zone.

    `model` and `vendor` describe the processor; `source` is the name of the collector.
    """
    paths = _zone_paths(sysfs)
    taken: set[str] = set()
    for key in sorted(paths):
        name = read_text(paths[key], "name")
        if len(key) > 1 or not name.startswith("package"):
            continue
        package = f"{name}-zone-{key[0]}" if name in taken else name
        taken.add(package)
        yield _zone(paths[key], Device(DeviceKind.CPU, package), model, vendor, source)
        for child in sorted(paths):
            if child[:-1] == key and read_text(paths[child], "name") == "dram":
                yield _zone(
                    paths[child], Device(DeviceKind.DRAM, f"{package}-dram"), "", "", source
                )


def zone_names(sysfs: str) -> list[str]:
    """Return the distinct names of all zones, sorted."""
    return sorted({read_text(path, "name") for path in _zone_paths(sysfs).values()})


def has_zones(sysfs: str) -> bool:
    """Whether there are zones, or a directory that this user may not list."""
    return bool(_zone_paths(sysfs) or unlistable_directory(sysfs))


def unlistable_directory(sysfs: str) -> str:
    """Return a powercap directory that this user may not list; "" if there is none."""
    for root in ROOTS:
        path = os.path.join(sysfs, root)
        try:
            os.listdir(path)
        except PermissionError as error:
            return str(error.filename)
        except OSError:
            continue
    return ""


def _zone_paths(sysfs: str) -> dict[tuple[int, ...], str]:
    """Return zone directories by zone numbers.

    Both roots are searched, because containers may mount /sys/devices without /sys/class.
    """
    paths: dict[tuple[int, ...], str] = {}
    for root in ROOTS:
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


def _zone(path: str, device: Device, model: str, vendor: str, source: str) -> PowercapZone:
    range_uj = _number(path, "max_energy_range_uj")
    cap_watts, limit_watts = _limits(path)
    info = DeviceInfo(
        device=device,
        model=model,
        vendor=vendor,
        source=source,
        power_cap_watts=cap_watts,
        wrap_uj=range_uj + 1 if range_uj else None,
        power_limit_watts=limit_watts,
    )
    return PowercapZone(info, path, ReusedFile(os.path.join(path, "energy_uj")))


def _limits(path: str) -> tuple[float, float | None]:
    """Return the bound of plausible power and the long-term limit, in watts."""
    limits_watts = [_limit_watts(path, f"constraint_{n}_power_limit_uw") for n in range(4)]
    most_watts = [_limit_watts(path, f"constraint_{n}_max_power_uw") for n in range(4)]
    # The limits apply to means over seconds; the power of a shorter interval may be higher.
    cap_watts = 2 * max(*limits_watts, *most_watts) or FALLBACK_CAP_WATTS
    return cap_watts, limits_watts[0] or None


def _limit_watts(path: str, name: str) -> float:
    """Return a power limit in watts; 0 if there is none, or an implausible one.

    The register has 15 bits of 1/8 W, so firmware that sets no limit reports up to 4095 W.
    """
    watts = _number(path, name) / units.MICROWATTS_PER_WATT
    return watts if watts <= FALLBACK_CAP_WATTS else 0.0


def _number(path: str, name: str) -> int:
    """Return the number in a file of a zone; 0 if there is none."""
    text = read_text(path, name)
    return int(text) if NUMBER.fullmatch(text) else 0
