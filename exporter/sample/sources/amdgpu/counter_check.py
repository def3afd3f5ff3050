"""Checks of what the firmware of AMD GPUs reports: its clock, and its energy counter."""

from exporter import units
from exporter.units import NANOSECONDS_PER_SECOND

MAX_AGE_NS = NANOSECONDS_PER_SECOND
"""Age above which values do not belong to the read; the firmware updates them each millisecond."""
DRIFT_DIVISOR = 5_000
"""The clocks may drift by 1/5000: that of a quartz is off by less than 1/10000."""
WINDOW_NS = 30 * NANOSECONDS_PER_SECOND
MAX_GAP_NS = 5 * NANOSECONDS_PER_SECOND
MIN_WATTS = 10.0
"""Mean power below which the comparison is too coarse: power is reported in whole watts."""
MAX_RATIO = 2.0
WRONG_WINDOWS = 2
"""Consecutive windows that must disagree."""


class FirmwareClock:
    """Converts times of the GPU's firmware to CLOCK_BOOTTIME.

    The kernel driver notes when it has read the values, which is later than the firmware has
    measured them. The least difference of both clocks is that with the least delay.
    """

    def __init__(self) -> None:
        self._offset_ns = 0
        self._last_ns: int | None = None
        """Time of the firmware at the last conversion; None: none."""

    def boottime_ns(self, firmware_ns: int, read_ns: int) -> int:
        """Return the time of values of the time `firmware_ns` that were read by `read_ns`.

        If the firmware's clock has been reset or does not move, it is `read_ns`.
        """
        offset_ns = read_ns - firmware_ns
        if self._last_ns is not None:
            moved_ns = max(0, firmware_ns - self._last_ns)
            least_ns = self._offset_ns + moved_ns // DRIFT_DIVISOR
            if 0 <= offset_ns - least_ns <= MAX_AGE_NS:
                offset_ns = least_ns
        self._offset_ns, self._last_ns = offset_ns, firmware_ns
        return firmware_ns + offset_ns


class CounterCheck:
    """Compares the energy counter of a GPU with its power.

    Counters have stopped, or run at a wrong rate, until the machine was restarted (ROCm/amdsmi
    issues 22 and 38).
    """

    def __init__(self) -> None:
        self.is_wrong = False
        """Whether the counter has contradicted the power in consecutive windows."""
        self._wrong_windows = 0
        self._began_ns = self._began_uj = 0
        self._last_ns = 0
        """Time of the last values; 0: a window begins with the next ones."""
        self._last_watts = 0.0
        self._power_uj = 0.0

    def add(self, at_ns: int, energy_uj: int | None, power_watts: float | None) -> None:
        """Add values of one time. A window without all of them is not used."""
        if energy_uj is None or power_watts is None:
            self._last_ns = 0
            return
        elapsed_ns = at_ns - self._last_ns
        if not self._last_ns or elapsed_ns > MAX_GAP_NS or energy_uj < self._began_uj:
            self._begin(at_ns, energy_uj)
        elif elapsed_ns > 0:
            self._power_uj += units.energy_uj((self._last_watts + power_watts) / 2, elapsed_ns)
            if at_ns - self._began_ns >= WINDOW_NS:
                self._compare(energy_uj - self._began_uj, at_ns - self._began_ns)
                self._begin(at_ns, energy_uj)
        self._last_ns, self._last_watts = at_ns, power_watts

    def _begin(self, at_ns: int, energy_uj: int) -> None:
        self._began_ns, self._began_uj, self._power_uj = at_ns, energy_uj, 0.0

    def _compare(self, counter_uj: int, elapsed_ns: int) -> None:
        if self._power_uj < units.energy_uj(MIN_WATTS, elapsed_ns):
            return
        agrees = self._power_uj / MAX_RATIO <= counter_uj <= self._power_uj * MAX_RATIO
        self._wrong_windows = 0 if agrees else self._wrong_windows + 1
        self.is_wrong = self.is_wrong or self._wrong_windows >= WRONG_WINDOWS
