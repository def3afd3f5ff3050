"""A sysfs with hwmon devices, for tests of power sensors."""

import os
from collections.abc import Mapping


class SysfsTree:
    """Writes files and links of a made-up sysfs."""

    def __init__(self, root: str) -> None:
        self.root = root

    def write(self, directory: str, files: Mapping[str, object]) -> str:
        """Write files to a directory; return its path."""
        path = os.path.join(self.root, directory)
        os.makedirs(path, exist_ok=True)
        for name, value in files.items():
            with open(os.path.join(path, name), "w", encoding="ascii") as file:
                file.write(f"{value}\n")
        return path

    def link(self, name: str, target: str) -> None:
        """Link `name` to `target`, both below the root."""
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(os.path.relpath(os.path.join(self.root, target), os.path.dirname(path)), path)

    def hsmp_socket(self, uid: str, hwmon: int, microwatts: object, device: int = 0) -> str:
        """Add a socket of the driver hsmp_acpi; return the directory of its hwmon device."""
        parent = f"devices/platform/AMDI0097:{device:02}"
        acpi = f"devices/LNXSYSTM:00/LNXSYBUS:00/AMDI0097:{device:02}"
        self.write(acpi, {"uid": uid, "hid": "AMDI0097"})
        path = self.write(
            f"{parent}/hwmon/hwmon{hwmon}",
            {
                "name": "amd_hsmp_hwmon",
                "power1_input": microwatts,
                "power1_cap": 400_000_000,
                "power1_cap_max": 400_000_000,
            },
        )
        self.link(f"{parent}/firmware_node", acpi)
        self.link(f"bus/platform/devices/AMDI0097:{device:02}", parent)
        return path

    def acpi_meter(
        self, number: int, microwatts: object, oem_info: str = "", **files: object
    ) -> str:
        """Add an ACPI power meter with the files of Linux before hwmon had its own directory."""
        device = f"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI000D:{number:02}"
        described = {"power1_oem_info": oem_info, "power1_is_battery": 0, **files}
        path = self.write(
            device, {"name": "power_meter", "power1_average": microwatts, **described}
        )
        self.write(f"{device}/hwmon/hwmon{number}", {})
        self.link(f"bus/acpi/drivers/power_meter/ACPI000D:{number:02}", device)
        return path
