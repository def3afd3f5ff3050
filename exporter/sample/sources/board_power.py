"""Collector `board_power`: power of the whole board by sensors whose meaning is known.

The table names each of them by driver and label. Sensors of other drivers may show anything, such
as one rail or a part of another device, and are not used. Sources: Documentation/hwmon/ina3221.rst
and Documentation/hwmon/ibmpowernv.rst of Linux; labels as in the table.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.sample.kernel_files import read_text
from exporter.sample.node_meter import node_info
from exporter.sample.power_sensors import PowerSensor, hwmon_directories, open_power_sensors
from exporter.sample.threaded_collector import ThreadedCollector

NAME = "board_power"
NO_SENSOR = "no known sensor of the power of the board under {sysfs}; known: {known}"


class BoardSensor(NamedTuple):
    """A sensor that covers the board."""

    model: str
    driver: str
    """Name of the hwmon device."""
    devices: str
    """Glob of its parent devices below sysfs."""
    label: str
    label_file: str
    """Name of the file with the label, with `*` for the number of the channel."""
    value_files: tuple[str, ...]
    combine: Callable[[Iterable[int]], int] = sum


BOARD_SENSORS = (
    # 426 W where the two processors have 256 W: open-power blog, "Hwmon sensors in P9".
    BoardSensor(
        model="IBM POWER system",
        driver="ibmpowernv",
        devices="bus/platform/drivers/ibmpowernv/*",
        label="System",
        label_file="power*_label",
        value_files=("power*_input",),
    ),
    # Millivolts times milliamperes. NVIDIA's name of the input of the module.
    BoardSensor(
        model="NVIDIA Jetson module",
        driver="ina3221",
        devices="bus/i2c/drivers/ina3221/*",
        label="VDD_IN",
        label_file="in*_label",
        value_files=("in*_input", "curr*_input"),
        combine=math.prod,
    ),
)


def open_board_power(
    sysfs: str, clock: Clock, boot_id: str, timeout_seconds: float = 0.0
) -> ThreadedCollector:
    """Open the sensor of the board. Raises Unavailable if there is none, or it cannot be read."""
    sensor = next(_sensors(sysfs), None)
    if sensor is None:
        known = ", ".join(f"{each.driver} {each.label}" for each in BOARD_SENSORS)
        raise Unavailable(NO_SENSOR.format(sysfs=sysfs, known=known))
    return open_power_sensors(NAME, [sensor], clock, boot_id, timeout_seconds)


def has_sensor(sysfs: str) -> bool:
    """Whether there is a sensor of the table."""
    return next(_sensors(sysfs), None) is not None


def _sensors(sysfs: str) -> Iterator[PowerSensor]:
    for known in BOARD_SENSORS:
        name = re.compile(re.escape(known.label_file).replace(r"\*", r"(\d+)"))
        for directory in hwmon_directories(sysfs, known.devices, known.driver):
            for file in sorted(os.listdir(directory)):
                channel = name.fullmatch(file)
                if channel and read_text(directory, file) == known.label:
                    files = (each.replace("*", channel[1]) for each in known.value_files)
                    paths = tuple(os.path.join(directory, each) for each in files)
                    yield PowerSensor(node_info(NAME, known.model), paths, combine=known.combine)
