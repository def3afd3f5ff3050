"""Collectors `acpi_power_meter` and `grace`: ACPI power meters, of the node or of Grace sockets.

The driver `acpi_power_meter` shows the average power of each meter in `power1_average` and the
firmware's description in `power1_oem_info`. The firmware of NVIDIA Grace has four meters per
socket: `Module`, `Grace`, `CPU` and `SysIO Power Socket N`. Grace is the whole socket with its
memory; CPU and SysIO are rails inside it, and Module covers a GPU as well. Any other meter is taken
for that of the node, if it is the only one. Sources: drivers/hwmon/acpi_power_meter.c and
Documentation/hwmon/acpi_power_meter.rst of Linux; NVIDIA Grace Performance Tuning Guide, "Power
Telemetry".
"""

import os
import re
from collections.abc import Sequence
from glob import glob
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.sample.kernel_files import read_text
from exporter.sample.node_meter import node_info
from exporter.sample.power_model import CpuInfo
from exporter.sample.power_sensors import PowerSensor, open_power_sensors, processor_info
from exporter.sample.threaded_collector import ThreadedCollector

NODE_NAME = "acpi_power_meter"
GRACE_NAME = "grace"
METERS = "bus/acpi/drivers/power_meter/ACPI000D:*"
POWER = "power1_average"
GRACE_METER = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d{1,3})")
SOCKET = "Grace"
GRACE_MODEL = "NVIDIA Grace"
NO_METERS = "no ACPI power meter under {sysfs}; load the module acpi_power_meter"
NO_SOCKETS = (
    "no Grace power meters under {sysfs}; load the module acpi_power_meter, and start Linux with "
    "acpi_power_meter.force_cap_on=y"
)
SEVERAL = (
    "{number} ACPI power meters, and their descriptions do not tell which one covers the node: "
    "{descriptions}"
)


MILLISECONDS_PER_SECOND = 1_000
MAX_AVERAGE_SECONDS = 600.0
"""A longer time is implausible and not used."""


class _Meter(NamedTuple):
    """A power meter."""

    path: str
    """File with its power in microwatts."""
    description: str
    """That of the firmware, often empty."""
    average_seconds: float
    """Time over which it averages; 0: not known."""


def open_node(
    sysfs: str, clock: Clock, boot_id: str, timeout_seconds: float = 0.0
) -> ThreadedCollector:
    """Open the meter of the node. Raises Unavailable if there is not exactly one."""
    meters = _node_meters(sysfs)
    if not meters:
        raise Unavailable(NO_METERS.format(sysfs=sysfs))
    if len(meters) > 1:
        descriptions = ", ".join(meter.description or "no description" for meter in meters)
        raise Unavailable(SEVERAL.format(number=len(meters), descriptions=descriptions))
    (meter,) = meters
    sensor = PowerSensor(node_info(NODE_NAME, meter.description), (meter.path,))
    return open_power_sensors(NODE_NAME, [sensor], clock, boot_id, timeout_seconds)


def open_grace(sysfs: str, clock: Clock, boot_id: str, cpu: CpuInfo) -> ThreadedCollector:
    """Open the meters of the Grace sockets. Raises Unavailable if none can be read."""
    sensors = _grace_sensors(sysfs, cpu)
    if not sensors:
        raise Unavailable(NO_SOCKETS.format(sysfs=sysfs))
    return open_power_sensors(GRACE_NAME, sensors, clock, boot_id)


def node_lag_seconds(sysfs: str) -> float:
    """Return the time by which the meter of the node is late: half of that of its average."""
    return max((meter.average_seconds / 2 for meter in _node_meters(sysfs)), default=0.0)


def has_node_meter(sysfs: str) -> bool:
    """Whether there is a meter that is none of Grace."""
    return bool(_node_meters(sysfs))


def has_grace_meters(sysfs: str) -> bool:
    """Whether there are meters of Grace."""
    return any(GRACE_METER.fullmatch(meter.description) for meter in _meters(sysfs))


def _node_meters(sysfs: str) -> Sequence[_Meter]:
    return [meter for meter in _meters(sysfs) if not GRACE_METER.fullmatch(meter.description)]


def _grace_sensors(sysfs: str, cpu: CpuInfo) -> list[PowerSensor]:
    found = ((GRACE_METER.fullmatch(meter.description), meter.path) for meter in _meters(sysfs))
    paths = {int(match[2]): path for match, path in found if match and match[1] == SOCKET}
    named = cpu._replace(model=cpu.model or GRACE_MODEL, vendor=cpu.vendor or "NVIDIA")
    return [
        PowerSensor(processor_info(socket, named, GRACE_NAME), (path,))
        for socket, path in sorted(paths.items())
    ]


def _meters(sysfs: str) -> list[_Meter]:
    """Return all meters but those of batteries, in the order of their ACPI names."""
    meters = []
    for device in sorted(glob(os.path.join(sysfs, METERS))):
        for directory in (device, *glob(os.path.join(device, "hwmon", "hwmon*"))):
            path = os.path.join(directory, POWER)
            if os.path.exists(path) and read_text(directory, "power1_is_battery") != "1":
                description = read_text(directory, "power1_oem_info")
                meters.append(_Meter(path, description, _average_seconds(directory)))
                break
    return meters


def _average_seconds(directory: str) -> float:
    text = read_text(directory, "power1_average_interval")
    seconds = int(text) / MILLISECONDS_PER_SECOND if text.isdecimal() else 0.0
    return seconds if seconds <= MAX_AVERAGE_SECONDS else 0.0
