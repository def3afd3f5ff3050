"""Power sensors that the kernel shows as files, in microwatts, as in hwmon; read in a thread."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import (
    Device,
    DeviceInfo,
    DeviceKind,
    Method,
    Observation,
    Reading,
)
from exporter.sample.kernel_files import ReusedFile, read_text
from exporter.sample.power_model import CpuInfo
from exporter.sample.powercap import FALLBACK_CAP_WATTS
from exporter.worker import OnDemandWorker, deadline

FIRST_READ_TIMEOUT_SECONDS = 2.0
"""Time to wait for the first values at startup."""
READ_TIMEOUT_SECONDS = 0.1
"""Time that a tick waits for all sensors of a collector together."""
STOP_SECONDS = 1.0
LIMITS_REFRESH_NS = 30 * units.NANOSECONDS_PER_SECOND
"""Interval at which the power limits are read again; they may be changed at runtime."""
MAX_BYTES = 32
LATE = "the driver has not answered for {seconds:.1f} s"
ZERO = "{path}: the sensor reports {microwatts} uW, which is not the power of a running device"


@dataclass(eq=False, slots=True)
class PowerSensor:
    """The power sensors of one device."""

    info: DeviceInfo
    """Its method must be `integrated`."""
    paths: tuple[str, ...]
    """Files with a power in microwatts; the power of the device is their sum."""
    limit_path: str = ""
    """File with the power limit in microwatts; "": there is none."""


class PowerSensorCollector:
    """Reads the power of devices that have no energy counter.

    A read of such a file is a call of the firmware, which may take long or hang: a thread reads,
    and a tick waits READ_TIMEOUT_SECONDS at most. Values that arrive later are used by the next
    tick, with the time at which they were read. `boot_id` is that of the running kernel. Raises
    Unavailable if no sensor can be read.
    """

    def __init__(
        self, name: str, sensors: Sequence[PowerSensor], clock: Clock, boot_id: str
    ) -> None:
        self.name = name
        self._clock = clock
        # Integrated power must not continue a counter that another collector read.
        self._epoch = f"{boot_id}/{name}"
        self._files = [(sensor, [ReusedFile(path) for path in sensor.paths]) for sensor in sensors]
        self._limits_ns = clock.monotonic_ns() - LIMITS_REFRESH_NS
        self._worker: OnDemandWorker[tuple[Reading, ...]] = OnDemandWorker(name, self._read_files)
        self._worker.request()
        first = self._worker.result(deadline(FIRST_READ_TIMEOUT_SECONDS))
        if first is None or all(reading.power_watts is None for reading in first):
            self.release()
            raise Unavailable(self._late() if first is None else first[0].why)

    def read(self) -> Observation:
        """Read all sensors, each with its own time."""
        began_ns, at_ns = self._clock.monotonic_ns(), self._clock.boottime_ns()
        late = self._worker.result(0.0)
        self._worker.request()
        readings = self._worker.result(deadline(READ_TIMEOUT_SECONDS)) or late
        infos = tuple(sensor.info for sensor, _ in self._files)
        if readings is None:
            readings = tuple(
                Reading(info.device, at_ns, self._epoch, why=self._late()) for info in infos
            )
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=infos,
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=next((reading.why for reading in readings if reading.why), ""),
        )

    def release(self) -> None:
        """End the thread and close all files; a thread that hangs in a driver is abandoned."""
        if self._worker.stop(STOP_SECONDS):
            for _, files in self._files:
                for file in files:
                    file.close()

    def _late(self) -> str:
        return LATE.format(seconds=self._worker.busy_seconds)

    def _read_files(self) -> tuple[Reading, ...]:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._limits_ns >= LIMITS_REFRESH_NS:
            self._limits_ns = now_ns
            for sensor, _ in self._files:
                if sensor.limit_path:
                    sensor.info = _with_limit(sensor.info, sensor.limit_path)
        return tuple(self._reading(sensor.info, files) for sensor, files in self._files)

    def _reading(self, info: DeviceInfo, files: Sequence[ReusedFile]) -> Reading:
        microwatts, why = 0, ""
        for file in files:
            value, why = read_microwatts(file)
            microwatts += value
            if why:
                break
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        watts = None if why else microwatts / units.MICROWATTS_PER_WATT
        return Reading(
            info.device, at_ns, self._epoch, power_watts=watts, why=why, awake_ns=awake_ns
        )


def read_microwatts(file: ReusedFile) -> tuple[int, str]:
    """Read a power in microwatts; return it, or 0 and the reason why there is none.

    A power of 0 is no measurement: drivers report it for a sensor that failed.
    """
    try:
        microwatts = int(file.read(MAX_BYTES))
    except OSError as error:
        return 0, f"{file.path}: {error.strerror}"
    except ValueError:
        file.close()
        return 0, f"{file.path}: does not contain a number"
    if microwatts <= 0:
        return 0, ZERO.format(path=file.path, microwatts=microwatts)
    return microwatts, ""


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
