"""Intel GPUs in sysfs and procfs, as the kernel drivers i915 and xe present them.

Authorities: tests/README.md.
"""

import os
import shutil
from pathlib import Path

UNIT = 2**14
"""Units of the energy register per joule (ENERGY_UNIT of xe_hwmon.c)."""
RANGE = 2**32
J = 1_000_000
XE_FDINFO = """\
pos:    0
flags:  0100002
mnt_id: 26
ino:    685
drm-driver:     xe
drm-client-id:  {client}
drm-pdev:       {pdev}
drm-total-vram0:        23992 KiB
drm-resident-vram0:     23992 KiB
drm-cycles-rcs: {rcs}
drm-total-cycles-rcs:   {total}
drm-cycles-bcs: 0
drm-total-cycles-bcs:   {total}
drm-cycles-vcs: 0
drm-total-cycles-vcs:   {total}
drm-engine-capacity-vcs:        2
drm-cycles-ccs: {ccs}
drm-total-cycles-ccs:   {total}
drm-engine-capacity-ccs:        4
"""
"""The example of drivers/gpu/drm/xe/xe_drm_client.c, shortened."""
I915_FDINFO = """\
drm-driver: i915
drm-pdev:   {pdev}
drm-client-id:      {client}
drm-engine-render:  {render} ns
drm-engine-copy:    0 ns
drm-engine-video:   0 ns
drm-engine-capacity-video:   2
drm-engine-compute: {compute} ns
"""
"""Keys of show_client_class and i915_drm_client_fdinfo, drivers/gpu/drm/i915/i915_drm_client.c."""


class EnergyRegister:
    """A 32-bit energy register, and its accumulation by the kernel when the counter is read.

    `is_exact`: as in newer versions of xe; in i915 and older versions each wrap loses a unit.
    """

    def __init__(self, joules: float = 1000.0, *, is_exact: bool = True) -> None:
        self._true = round(joules * UNIT)
        self._is_exact = is_exact
        self._last = self._accumulated = self._true % RANGE

    def use(self, joules: float) -> None:
        """Use energy, without a read."""
        self._true += round(joules * UNIT)

    def lose_power(self) -> None:
        """Restart at 0, unnoticed by the kernel."""
        self._true = 0

    def read_uj(self) -> int:
        """What the kernel shows now, xe_hwmon_energy_get."""
        register = self._true % RANGE
        if register >= self._last or self._is_exact:
            self._accumulated += (register - self._last) % RANGE
        else:
            self._accumulated += RANGE - 1 - self._last + register
        self._last = register
        return (self._accumulated * J) >> 14


class IntelTree:
    """A sysfs with cards, and a procfs with their clients."""

    def __init__(self, root: Path) -> None:
        self.sysfs, self.procfs = root / "sys", root / "proc"
        (self.sysfs / "bus/pci/devices").mkdir(parents=True)
        self.procfs.mkdir()

    def card(
        self,
        address: str = "0000:03:00.0",
        *,
        driver: str = "xe",
        device: str = "0xe20b",
        pci_class: str = "0x030000",
        minor: int = 1,
    ) -> "CardFiles":
        """Add a card, which is awake and in use."""
        card = CardFiles(self.sysfs / "bus/pci/devices" / address)
        card.write("vendor", "0x8086")
        card.write("device", device)
        card.write("class", pci_class)
        card.write("power/control", "auto")
        card.write("power/runtime_status", "active")
        card.write("power/runtime_usage", "1")
        card.write("power_state", "D0")
        card.bind(driver)
        for node in (f"card{minor}", f"renderD{127 + minor}", f"card{minor}-DP-1"):
            (card.path / "drm" / node).mkdir(parents=True)
        return card

    def process(self, pid: int, *fdinfo: str, node: str = "renderD128") -> None:
        """Let a process have these clients; none: it has exited."""
        path = self.procfs / str(pid)
        shutil.rmtree(path, ignore_errors=True)
        for fd, text in enumerate(fdinfo, 3):
            (path / "fd").mkdir(parents=True, exist_ok=True)
            (path / "fdinfo").mkdir(exist_ok=True)
            os.symlink(f"/dev/dri/{node}", path / "fd" / str(fd))
            (path / "fdinfo" / str(fd)).write_text(text)


class CardFiles:
    """The directory of a card's PCI device."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: object) -> None:
        """Write a file in place, as the kernel changes a value."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def remove(self, name: str) -> None:
        """Remove a file or directory."""
        path = self.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def bind(self, driver: str) -> None:
        """Bind to a kernel driver."""
        link = self.path / "driver"
        link.unlink(missing_ok=True)
        link.symlink_to(f"../../../../bus/pci/drivers/{driver}")

    def hwmon(self, number: int, name: str, **values: object) -> None:
        """Add a hwmon device with these attributes."""
        self.write(f"hwmon/hwmon{number}/name", name)
        for attribute, value in values.items():
            self.write(f"hwmon/hwmon{number}/{attribute}", value)
