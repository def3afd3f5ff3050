"""A made-up machine with AMD GPUs: `/sys` and `/proc` with the files that are read.

The bytes of `gpu_metrics` have the kernel's layout, from `layouts.json`; names of files are those
of `amdgpu_pm.c`, `kfd_topology.c` and `kfd_process.c` of Linux.
"""

import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.amdgpu.kernel import filled, put_xcp, structs

JOULES_PER_COUNT = 2**-16
"""Energy (15.259uJ (2^-16) units), in the words of the kernel's header."""


class Card:
    """A PCI device of the driver amdgpu."""

    def __init__(self, path: Path, revision: str | None) -> None:
        self.path = path
        self.revision = revision
        self.fields: dict[str, int] = {}
        self.xcp: dict[int, dict[str, list[int]]] = {}

    @property
    def metrics(self) -> Path:
        return self.path / "gpu_metrics"

    def show(self, **fields: int) -> None:
        """Write these values into `gpu_metrics`, in place, as the kernel does."""
        self.fields |= fields
        assert self.revision is not None
        found = structs()
        name = f"gpu_metrics_v{self.revision.replace('.', '_')}"
        data = filled(found[name], self.revision, self.fields)
        for number, arrays in self.xcp.items():
            put_xcp(data, found, self.revision, number, arrays)
        self.write("gpu_metrics", bytes(data))

    def show_partition(self, number: int, busy: Iterable[int], accumulated: Iterable[int]) -> None:
        """Set what `xcp_stats` shows of a partition, by XCC."""
        self.xcp[number] = {"gfx_busy_inst": list(busy), "gfx_busy_acc": list(accumulated)}

    def sensor(self, name: str, value: object) -> None:
        """Write a file of hwmon."""
        self.write(f"hwmon/hwmon3/{name}", value)

    def write(self, name: str, value: object) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = value if isinstance(value, bytes) else f"{value}\n".encode()
        if path.exists():
            with path.open("r+b") as file:
                file.write(content)
                file.truncate()
        else:
            path.write_bytes(content)


class AmdHost:
    """The machine. `sysfs` and `procfs` are parameters of what is tested."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sysfs, self.procfs = root / "sys", root / "proc"
        self.procfs.mkdir(parents=True)
        kfd = self.sysfs / "devices/virtual/kfd/kfd"
        self.nodes, self.processes = kfd / "topology/nodes", kfd / "proc"

    def card(
        self,
        address: str,
        device: str,
        *,
        revision: str | None = "1.3",
        unique_id: str = "",
        product: str = "",
        drm: Iterable[str] = (),
        pci_class: str = "0x030000",
        driver: str = "amdgpu",
        sensors: Mapping[str, object] | None = None,
    ) -> Card:
        """Add a PCI device; with `sensors` it has a hwmon directory."""
        card = Card(self.sysfs / "bus/pci/devices" / address, revision)
        files = {"vendor": "0x1002", "device": device, "class": pci_class}
        files |= {"unique_id": unique_id} if unique_id else {}
        files |= {"product_name": product} if product else {}
        for name, value in files.items():
            card.write(name, value)
        os.symlink(f"../../drivers/{driver}", card.path / "driver")
        card.write("power/runtime_status", "active")
        for node in drm:
            (card.path / "drm" / node).mkdir(parents=True)
        if sensors is not None:
            card.sensor("name", "amdgpu")
            for name, value in sensors.items():
                card.sensor(name, value)
        return card

    def node(self, number: int, gpu_id: int, properties: Mapping[str, int]) -> None:
        """Add a node of KFD's topology; `gpu_id` 0: of processors."""
        path = self.nodes / str(number)
        path.mkdir(parents=True)
        (path / "gpu_id").write_text(f"{gpu_id}\n")
        lines = (f"{name} {value}\n" for name, value in properties.items())
        (path / "properties").write_text("".join(lines))

    def platform(self, name: str, *drm: str) -> None:
        """Add the platform device of a partition."""
        for node in drm:
            (self.sysfs / "devices/platform" / name / "drm" / node).mkdir(parents=True)

    def compute(
        self,
        pid: int,
        gpu_id: int,
        queues: int = 1,
        occupied: int | None = None,
        context: str = "",
    ) -> None:
        """Add a process of ROCm, or queues and occupancy of one or of a further context of it."""
        path = self.processes / str(pid) / context
        for number in range(queues):
            queue = path / "queues" / f"{gpu_id}{number}"
            queue.mkdir(parents=True, exist_ok=True)
            (queue / "gpuid").write_text(f"{gpu_id}\n")
        if occupied is not None:
            stats = path / f"stats_{gpu_id}"
            stats.mkdir(parents=True, exist_ok=True)
            (stats / "cu_occupancy").write_text(f"{occupied}\n")

    def client(self, pid: int, fd: int, text: str, target: str = "/dev/dri/renderD128") -> None:
        """Add a descriptor of a process, with its fdinfo."""
        for name in ("fd", "fdinfo"):
            (self.procfs / str(pid) / name).mkdir(parents=True, exist_ok=True)
        link = self.procfs / str(pid) / "fd" / str(fd)
        if not link.is_symlink():
            os.symlink(target, link)
        (self.procfs / str(pid) / "fdinfo" / str(fd)).write_text(text)


def counts(joules: float) -> int:
    """What an energy accumulator shows after so many joules."""
    return round(joules / JOULES_PER_COUNT)


def attributes(*entries: tuple[int, int, int, str, list[int]]) -> bytes:
    """Bytes of revision 1.9: unit, type, id, format of `struct` and values of each attribute."""
    body = b"".join(
        struct.pack("<Q", unit << 24 | kind << 20 | number << 10 | len(values))
        + struct.pack(f"<{len(values)}{format_}", *values)
        for unit, kind, number, format_, values in entries
    )
    return struct.pack("<HBBi", 8 + len(body), 1, 9, len(entries)) + body
