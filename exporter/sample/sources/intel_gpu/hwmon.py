"""Energy counters and power limits of Intel's discrete cards, in hwmon of sysfs.

Sources: Documentation/ABI/testing/sysfs-driver-intel-i915-hwmon and -xe-hwmon, i915_hwmon.c and
xe_hwmon.c of Linux. Integrated graphics have no hwmon device: their energy is included in that of
the processor. Nor have virtual functions.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from exporter import units
from exporter.sample.kernel_files import parse_number, read_text
from exporter.sample.sources.gpu.identity import plausible_limit_watts

DEVICE_HWMONS = ("i915", "xe")
"""Names of hwmon devices of a whole card. `i915_gt0`, `i915_gt1` are its tiles, and included."""
LABELS = ("card", "pkg", "")
"""Labels of energy counters, the most inclusive first; "": i915 and early xe have no labels."""
CHANNELS = ("1", "2")
REGISTER_RANGE_UJ = 2**18 * units.MICROJOULES_PER_JOULE
"""Range of the register that the kernel accumulates when the counter is read: 32 bits in units of
2^-14 J, which is fixed for cards with power limits by mailbox, and that of the others known so far.
"""


class EnergyCounter(NamedTuple):
    """The energy counter of a card."""

    hwmon: str
    """Directory of its hwmon device."""
    channel: str

    @property
    def path(self) -> str:
        """Path of the counter, in microjoules."""
        return os.path.join(self.hwmon, f"energy{self.channel}_input")

    @property
    def load_id(self) -> str:
        """Identify this load of the kernel driver; the counter restarts with each.

        The kernel creates the directory anew, and does not use its inode number again.
        """
        try:
            return str(os.stat(self.hwmon).st_ino)
        except OSError:
            return ""

    def limits_watts(self) -> Iterator[float]:
        """Yield the power limits that are set: sustained, default, and of a burst.

        `power*_crit` is the threshold of an emergency, and not a limit. Reading the limits wakes
        the card.
        """
        for name in ("max", "rated_max", "cap"):
            limit_uw = parse_number(read_text(self.hwmon, f"power{self.channel}_{name}")) or 0
            limit_watts = plausible_limit_watts(limit_uw / units.MICROWATTS_PER_WATT)
            if limit_watts is not None:
                yield limit_watts


def find_counter(device_path: str) -> EnergyCounter | None:
    """Return the counter that covers most of a PCI device; None if it has none.

    Does not wake the card: its driver answers names and labels without it.
    """
    parent = os.path.join(device_path, "hwmon")
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return None
    found = [
        (LABELS.index(label), EnergyCounter(hwmon, channel))
        for hwmon in (os.path.join(parent, name) for name in names)
        if read_text(hwmon, "name") in DEVICE_HWMONS
        for channel in CHANNELS
        if os.path.exists(os.path.join(hwmon, f"energy{channel}_input"))
        and (label := read_text(hwmon, f"energy{channel}_label")) in LABELS
    ]
    return min(found)[1] if found else None
