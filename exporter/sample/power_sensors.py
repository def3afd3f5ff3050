"""Power sensors that the kernel shows as files, as in hwmon."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from glob import glob

from exporter import units
from exporter.clock import Clock
from exporter.model.readings import (
    Device,
    DeviceInfo,
    DeviceKind,
    Method,
    Reading,
)
from exporter.sample.kernel_files import ReusedFile, read_text
from exporter.sample.power_model import CpuInfo
from exporter.sample.powercap import FALLBACK_CAP_WATTS
from exporter.sample.threaded_collector import ThreadedCollector, Values

READ_TIMEOUT_SECONDS = 0.1
"""Time that a tick waits for all sensors of a collector together."""
LIMITS_REFRESH_NS = 30 * units.NANOSECONDS_PER_SECOND
"""Interval at which the power limits are read again; they may be changed at runtime."""
MAX_BYTES = 32
ZERO = "{path}: the sensor reports {value}, which a running device cannot have"


@dataclass(eq=False, slots=True)
class PowerSensor:
    """The sensors of the power of one device."""

    info: DeviceInfo
    """Its method must be `integrated`."""
    paths: tuple[str, ...]
    """Files whose values give the power in microwatts."""
    limit_path: str = ""
    """File with the power limit in microwatts; "": there is none."""
    combine: Callable[[Iterable[int]], int] = sum
    """Computes the power of the values."""


class PowerSensors:
    """Reads the power of devices that have no energy counter.

    `epoch` is that of all readings: it must differ from that of a counter of the same devices,
    which integrated power must not continue.
    """

    def __init__(self, sensors: Sequence[PowerSensor], clock: Clock, epoch: str) -> None:
        self._files = [(sensor, [ReusedFile(path) for path in sensor.paths]) for sensor in sensors]
        self._clock = clock
        self._epoch = epoch
        self._limits_ns = clock.monotonic_ns() - LIMITS_REFRESH_NS

    def read(self) -> Values:
        """Read all sensors, each with its own time."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._limits_ns >= LIMITS_REFRESH_NS:
            self._limits_ns = now_ns
            for sensor, _ in self._files:
                if sensor.limit_path:
                    sensor.info = _with_limit(sensor.info, sensor.limit_path)
        return tuple((sensor.info, self._reading(sensor, files)) for sensor, files in self._files)

    def close(self) -> None:
        """Close all files; a later read opens them again."""
        for _, files in self._files:
            for file in files:
                file.close()

    def _reading(self, sensor: PowerSensor, files: Sequence[ReusedFile]) -> Reading:
        found = [read_positive(file) for file in files]
        why = next((why for _, why in found if why), "")
        microwatts = None if why else sensor.combine(value for value, _ in found)
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        watts = None if microwatts is None else microwatts / units.MICROWATTS_PER_WATT
        device = sensor.info.device
        return Reading(device, at_ns, self._epoch, power_watts=watts, why=why, awake_ns=awake_ns)


def open_power_sensors(
    name: str,
    sensors: Sequence[PowerSensor],
    clock: Clock,
    boot_id: str,
    timeout_seconds: float | None = None,
) -> ThreadedCollector:
    """Open a collector of power sensors. Raises Unavailable if none can be read.

    `boot_id` is that of the running kernel. A read of such a file is a call of the firmware, which
    may take long or hang. `timeout_seconds` defaults to READ_TIMEOUT_SECONDS.
    """
    readers = PowerSensors(sensors, clock, f"{boot_id}/{name}")
    timeout_seconds = READ_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
    infos = [sensor.info for sensor in sensors]
    return ThreadedCollector(name, infos, readers.read, readers.close, clock, timeout_seconds)


def read_positive(file: ReusedFile) -> tuple[int, str]:
    """Read a positive number; return it, or 0 and the reason why there is none.

    Drivers report 0 for a sensor that failed, and a running device always uses power.
    """
    try:
        value = int(file.read(MAX_BYTES))
    except OSError as error:
        return 0, f"{file.path}: {error.strerror}"
    except ValueError:
        file.close()
        return 0, f"{file.path}: does not contain a number"
    if value <= 0:
        return 0, ZERO.format(path=file.path, value=value)
    return value, ""


def hwmon_directories(sysfs: str, pattern: str, name: str) -> list[str]:
    """Return the directories of hwmon devices with a `name`, in the order of their numbers.

    `pattern` is a glob below `sysfs` that matches the parent devices. Devices are found by their
    bus, since containers often have `bus` and `devices` of the host's sysfs, without `class`.
    """
    found = glob(os.path.join(sysfs, pattern, "hwmon", "hwmon*"))
    return sorted((path for path in found if read_text(path, "name") == name), key=_number)


def processor_info(package: int, cpu: CpuInfo, source: str) -> DeviceInfo:
    """Return the description of a processor package whose power is integrated."""
    return DeviceInfo(
        device=Device(DeviceKind.CPU, f"package-{package}"),
        model=cpu.model,
        vendor=cpu.vendor,
        source=source,
        power_cap_watts=FALLBACK_CAP_WATTS,
        method=Method.INTEGRATED,
    )


def _number(path: str) -> int:
    digits = re.sub(r"\D", "", os.path.basename(path))
    return int(digits) if digits else 0


def _with_limit(info: DeviceInfo, path: str) -> DeviceInfo:
    """Return the description with the power limit; twice the limit is plausible in any case."""
    text = read_text("", path)
    limit_watts = int(text) / units.MICROWATTS_PER_WATT if text.isdecimal() else 0.0
    return info._replace(
        power_limit_watts=limit_watts or None,
        power_cap_watts=max(info.power_cap_watts, 2 * limit_watts),
    )
