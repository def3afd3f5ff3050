"""Files of the kernel drivers of GPUs."""

import os
from contextlib import suppress

from exporter.sample.sources.amdgpu.driver import AmdDriver
from exporter.sample.sources.amdgpu.gpu_metrics import UnknownRevision, decode_gpu_metrics
from exporter.sample.sources.drm_fdinfo import parse_fdinfo
from exporter.sample.sources.gpu.driver import GpuError
from tests.fuzz.inputs import StillClock, directory, files_with

CARD = "bus/pci/devices/0000:05:00.0"
NODE = "devices/virtual/kfd/kfd/topology/nodes/1"
QUEUE = "devices/virtual/kfd/kfd/proc/42/queues/1"
FILES = (
    *(f"{CARD}/{name}" for name in ("unique_id", "product_name", "device", "gpu_metrics")),
    *(f"{CARD}/hwmon/hwmon1/{name}" for name in ("power1_average", "power1_cap")),
    *(f"{NODE}/{name}" for name in ("gpu_id", "properties")),
    f"{QUEUE}/gpuid",
)


def gpu_metrics(data: bytes) -> None:
    """The binary file of a GPU of AMD."""
    with suppress(UnknownRevision):
        metrics = decode_gpu_metrics(data)
        assert metrics.energy_uj is None or metrics.energy_uj > 0
        assert metrics.utilization is None or 0 <= metrics.utilization <= 1


def drm_fdinfo(data: bytes) -> None:
    """A file of /proc/PID/fdinfo."""
    client = parse_fdinfo(data.decode("ascii", "replace"))
    if client is not None:
        assert all(time.busy >= 0 and time.capacity > 0 for time in client.engines.values())


def amd_card(data: bytes) -> None:
    """Files of a card of AMD, its sensors, and its users in KFD."""
    root = files_with(data, FILES, "amd")
    card = directory() / "amd" / CARD
    for name, text in (("vendor", "0x1002\n"), ("class", "0x120000\n")):
        (card / name).write_text(text)
    (card / "hwmon/hwmon1/name").write_text("amdgpu\n")
    if not (card / "driver").is_symlink():
        os.symlink("../amdgpu", card / "driver")
    procfs = directory() / "amd" / "proc"
    procfs.mkdir(exist_ok=True)
    driver = AmdDriver(root, str(procfs), StillClock())
    for listed in driver.list_gpus().gpus:
        reader = driver.reader(listed.info)
        with suppress(GpuError):
            reader.read_energy(listed.handle, listed.info.power_cap_watts)
        with suppress(GpuError):
            reader.read_users(listed.handle)
        reader.release()


TARGETS = (gpu_metrics, drm_fdinfo, amd_card)
