"""Collector `xgene`: power of Ampere eMAG and Altra processors.

The driver `xgene-hwmon` registers a hwmon device `apm_xgene` with the powers `CPU power` (of the
cores) and `IO power` (of the rest of the chip), whose sum is that of the socket. Each read is a
call of the firmware by a mailbox, of 1 s at most (MBOX_OP_TIMEOUTMS). Some distributions allow
only root to read them. Source: drivers/hwmon/xgene-hwmon.c of Linux. The driver `smpro_hwmon` runs
on management controllers, not on hosts.
"""

import os

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.sample.kernel_files import read_text
from exporter.sample.power_model import CpuInfo
from exporter.sample.power_sensors import (
    PowerSensor,
    hwmon_directories,
    open_power_sensors,
    processor_info,
)
from exporter.sample.threaded_collector import ThreadedCollector

NAME = "xgene"
HWMON_NAME = "apm_xgene"
DEVICES = "bus/platform/drivers/xgene-slimpro-hwmon/*"
LABELS = {"power1": "CPU power", "power2": "IO power"}
NO_SENSORS = "no power sensors of Ampere processors under {sysfs}; load the module xgene-hwmon"


def open_xgene(sysfs: str, clock: Clock, boot_id: str, cpu: CpuInfo) -> ThreadedCollector:
    """Open the collector. Raises Unavailable if no socket can be read."""
    sensors = find_sensors(sysfs, cpu)
    if not sensors:
        raise Unavailable(NO_SENSORS.format(sysfs=sysfs))
    return open_power_sensors(NAME, sensors, clock, boot_id)


def find_sensors(sysfs: str, cpu: CpuInfo) -> list[PowerSensor]:
    """Return the sensors of all sockets, in the order in which the kernel found them."""
    return [
        PowerSensor(
            info=processor_info(socket, cpu, NAME),
            paths=tuple(os.path.join(path, f"{name}_input") for name in LABELS),
        )
        for socket, path in enumerate(_sockets(sysfs))
    ]


def has_sensors(sysfs: str) -> bool:
    """Whether the kernel has registered sensors."""
    return bool(_sockets(sysfs))


def _sockets(sysfs: str) -> list[str]:
    return [
        path
        for path in hwmon_directories(sysfs, DEVICES, HWMON_NAME)
        if all(read_text(path, f"{name}_label") == label for name, label in LABELS.items())
    ]
