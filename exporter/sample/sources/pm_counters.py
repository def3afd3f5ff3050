"""Collector `pm_counters`: energy of an HPE Cray node, counted by its controller.

`{sysfs}/cray/pm_counters/energy` has whole joules and the time of the measurement by the
controller's clock, for example `2178501771 J 1734094386462336 us`; the controller updates it ten
times a second. The energy includes that of the accelerators. `startup` changes when the counters
start again. Source: docs-csm of Cray-HPE, "User Access to Compute Node Power Data".
"""

import os
import re

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Method, Reading
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.node_meter import NODE, node_info
from exporter.sample.threaded_collector import ThreadedCollector, Values
from exporter.units import (
    MICROJOULES_PER_JOULE,
    NANOSECONDS_PER_MICROSECOND,
    NANOSECONDS_PER_SECOND,
)

NAME = "pm_counters"
DIRECTORY = "cray/pm_counters"
ENERGY = re.compile(rb"(\d{1,15}) J(?: (\d{1,18}) us)?\s*")
NUMBER = re.compile(rb"(\d{1,18})\b.*", re.DOTALL)
MAX_BYTES = 128
MAX_AGE_NS = 10 * NANOSECONDS_PER_SECOND
"""Age above which a value is not used."""
MAX_DRIFT_NS = NANOSECONDS_PER_SECOND
"""Difference above which the controller's clock is compared with that of this machine again."""
ABSENT = "no energy counter at {path}; it exists only on HPE Cray EX and XC nodes"
NO_ENERGY = "{path}: expected an energy as `1234 J 1734094386462336 us`"
OUTDATED = "{path}: the controller has not updated the counter for {seconds:.0f} s"
INFO = node_info(NAME, "HPE Cray node", Method.COUNTER)


def open_pm_counters(
    sysfs: str, clock: Clock, boot_id: str, timeout_seconds: float = 0.0
) -> ThreadedCollector:
    """Open the collector. Raises Unavailable if the counter cannot be read."""
    if not has_counters(sysfs):
        raise Unavailable(ABSENT.format(path=_path(sysfs)))
    counter = PmCounter(_path(sysfs), clock, boot_id)
    return ThreadedCollector(NAME, [INFO], counter.read, counter.close, clock, timeout_seconds)


def has_counters(sysfs: str) -> bool:
    """Whether this machine has the counter."""
    return os.path.exists(_path(sysfs))


def _path(sysfs: str) -> str:
    return os.path.join(sysfs, DIRECTORY, "energy")


class PmCounter:
    """Reads the energy of the node, with the time of the controller as that of the reading."""

    def __init__(self, path: str, clock: Clock, boot_id: str) -> None:
        self._energy = ReusedFile(path)
        self._startup = ReusedFile(os.path.join(os.path.dirname(path), "startup"))
        self._clock = clock
        self._boot_id = boot_id
        self._offset_ns: int | None = None
        """CLOCK_BOOTTIME minus the controller's clock."""
        self._updated_ns = 0
        self._last = b""

    def read(self) -> Values:
        """Read the counter."""
        try:
            startup = _number(self._startup.read(MAX_BYTES))
        except OSError:
            startup = b""  # older controllers have none
        try:
            text = self._energy.read(MAX_BYTES)
        except OSError as error:
            return self._no_value(f"{self._energy.path}: {error.strerror}")
        now_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        found = ENERGY.fullmatch(text)
        if found is None:
            self._energy.close()
            return self._no_value(NO_ENERGY.format(path=self._energy.path))
        if text != self._last:
            self._last, self._updated_ns = text, now_ns
        stale_ns = now_ns - self._updated_ns
        if stale_ns > MAX_AGE_NS:
            seconds = stale_ns / NANOSECONDS_PER_SECOND
            return self._no_value(OUTDATED.format(path=self._energy.path, seconds=seconds))
        age_ns = self._age_ns(found[2], now_ns)
        reading = Reading(
            NODE,
            now_ns - age_ns,
            f"{self._boot_id}/{NAME}/{startup.decode()}",
            int(found[1]) * MICROJOULES_PER_JOULE,
            awake_ns=awake_ns - age_ns,
        )
        return ((INFO, reading),)

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        self._energy.close()
        self._startup.close()

    def _age_ns(self, timestamp: bytes | None, now_ns: int) -> int:
        """Return the time since the measurement; 0 if the controller reports no time.

        The two clocks differ, and the value is up to a tenth of a second old when they are compared
        first. That difference is constant, so it does not affect the time between two readings.
        """
        if timestamp is None:
            return 0
        measured_ns = int(timestamp) * NANOSECONDS_PER_MICROSECOND
        if self._offset_ns is not None:
            age_ns = now_ns - (measured_ns + self._offset_ns)
            unchanged_ns = now_ns - self._updated_ns
            if 0 <= age_ns <= unchanged_ns + MAX_DRIFT_NS:
                return age_ns
        self._offset_ns = self._updated_ns - measured_ns
        return now_ns - self._updated_ns

    def _no_value(self, why: str) -> Values:
        return ((INFO, Reading(NODE, self._clock.boottime_ns(), self._boot_id, why=why)),)


def _number(text: bytes) -> bytes:
    found = NUMBER.fullmatch(text)
    return found[1] if found else b""
