"""Collector `hsmp`: power of AMD EPYC sockets, which every user may read.

The Host System Management Port (HSMP) is a mailbox of the processor's firmware. After Linux 6.15
its drivers register a hwmon device `amd_hsmp_hwmon` per socket, whose `power1_input` (mode 0444) is
the answer to HSMP_GET_SOCKET_POWER. A read may take 0.2 s: HSMP_MSG_TIMEOUT for the lock, and again
for the answer. Sources: hwmon.c, plat.c, acpi.c and hsmp.c of drivers/platform/x86/amd/hsmp, and
Documentation/arch/x86/amd_hsmp.rst, of Linux.
"""

import os
import re

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

NAME = "hsmp"
HWMON_NAME = "amd_hsmp_hwmon"
ACPI_DEVICES = "bus/platform/devices/AMDI0097:*"
"""Driver `hsmp_acpi`: a device per socket."""
PLATFORM_DEVICE = "bus/platform/devices/amd_hsmp"
"""Driver `amd_hsmp`: one device, with the hwmon devices of all sockets, in their order."""
UID = re.compile(r"ID(\d{1,3})")
APU = "Instinct"
"""Part of the model of processors with a GPU in the same socket, such as MI300A."""
NO_SENSORS = (
    "no HSMP power sensors under {sysfs}; they require Linux after 6.15, the module hsmp_acpi or "
    "amd_hsmp, and HSMP support enabled in the BIOS"
)
HAS_GPU = "the socket power of {model} includes its GPU"


def open_hsmp(sysfs: str, clock: Clock, boot_id: str, cpu: CpuInfo) -> ThreadedCollector:
    """Open the collector. Raises Unavailable if no socket can be read."""
    sensors = find_sensors(sysfs, cpu)
    if not sensors:
        raise Unavailable(NO_SENSORS.format(sysfs=sysfs))
    if APU in cpu.model:
        raise Unavailable(HAS_GPU.format(model=cpu.model))
    return open_power_sensors(NAME, sensors, clock, boot_id)


def has_sensors(sysfs: str) -> bool:
    """Whether the kernel has registered sensors."""
    return bool(_sockets(sysfs))


def find_sensors(sysfs: str, cpu: CpuInfo) -> list[PowerSensor]:
    """Return the sensors of all sockets in their order."""
    return [
        PowerSensor(
            info=processor_info(socket, cpu, NAME),
            paths=(os.path.join(path, "power1_input"),),
            limit_path=os.path.join(path, "power1_cap"),
        )
        for socket, path in sorted(_sockets(sysfs).items())
    ]


def _sockets(sysfs: str) -> dict[int, str]:
    """Return the directories of the hwmon devices by the number of the socket."""
    sockets = dict(enumerate(hwmon_directories(sysfs, PLATFORM_DEVICE, HWMON_NAME)))
    for place, path in enumerate(hwmon_directories(sysfs, ACPI_DEVICES, HWMON_NAME)):
        # The driver takes the number of the socket from the ACPI device's _UID.
        uid = UID.fullmatch(read_text(path, "../../firmware_node/uid"))
        sockets[int(uid[1]) if uid else place] = path
    return sockets
