"""GPU identifiers as device plugins, device files and schedulers write them. Pure."""

import re
from collections.abc import Iterable, Mapping

from exporter.model.readings import Device, DeviceInfo, Kind, Occupancy

REPLICA = "::"
"""Between an id and the number of its replica, by NVIDIA's device plugin."""
VIRTUAL = re.compile(r"/vgpu\d+$")
"""Number of a replica, by GKE's device plugin."""
OLD_MIG = re.compile(r"MIG-(GPU-[^/]+/\d+/\d+)")
"""A MIG device as drivers before R470 name it: the GPU's UUID, GPU instance, compute instance."""
PREFIXES = ("GPU-", "MIG-")
"""Of the UUIDs of NVIDIA's driver."""
HEX = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
UUID = re.compile(f"(?:GPU|MIG)-(?i:{HEX})(?![0-9a-fA-F])")


def gpu_of(device_id: str, names: Mapping[str, str]) -> str:
    """The UUID of the GPU or MIG instance that a device id names; "" if it names none.

    `names` has UUIDs by other names, see `names_of`. Supported are NVML indices (`0`), GKE's device
    files and MIG instances (`nvidia0`, `nvidia0/gi1`), `MIG-GPU-.../gi/ci`, and every id that
    contains exactly one UUID, whatever a plugin puts before or after it. Replica numbers
    (`::0`, `/vgpu0`) are ignored.
    """
    base = VIRTUAL.sub("", device_id.partition(REPLICA)[0])
    if base in names:
        return names[base]
    if old := OLD_MIG.match(base):
        return names.get(old[1], "")
    found = {uuid for uuid in set(names.values()) if _contains(base.lower(), uuid)}
    found = {uuid for uuid in found if not any(uuid != one and uuid in one for one in found)}
    found = found or set(UUID.findall(base))
    if not found and base.startswith(PREFIXES) and "/" not in base:
        return base
    return found.pop() if len(found) == 1 else ""


def has_uuid(device_id: str) -> bool:
    """Whether an id contains the UUID of some GPU or MIG instance."""
    return UUID.search(device_id) is not None


def names_of(
    infos: Iterable[DeviceInfo], occupancies: Mapping[Device, Occupancy]
) -> dict[str, str]:
    """UUIDs of GPUs and MIG instances by all of their names.

    The names are the UUID, the NVML index (`0`), the device file by its minor number (`nvidia0`),
    `nvidia0/gi1` and `GPU-.../1/0`. A GPU instance of several compute instances is the first of
    them.
    """
    names = {}
    for info in infos:
        uuid = info.device.id
        if info.device.kind is not Kind.GPU:
            continue
        names[uuid] = uuid
        if info.ordinal:
            names[info.ordinal] = uuid
        if info.minor is not None:
            names[f"nvidia{info.minor}"] = uuid
        look = occupancies.get(info.device)
        for part in look.partitions if look is not None else ():
            names[part.id] = part.id
            if part.instances is not None:
                gpu_instance, compute_instance = part.instances
                names[f"{uuid}/{gpu_instance}/{compute_instance}"] = part.id
                if info.minor is not None:
                    names.setdefault(f"nvidia{info.minor}/gi{gpu_instance}", part.id)
    return names


def _contains(text: str, uuid: str) -> bool:
    """Whether a UUID is in a text in lower case as a whole, and not as a part of a longer one."""
    if uuid[4:].lower() not in text:  # without a regular expression, as there may be thousands
        return False
    is_uuid = UUID.fullmatch(uuid) is not None
    core, edge = (uuid[4:], "[0-9a-f]") if is_uuid else (uuid, "[0-9a-z]")
    return re.search(f"(?<!{edge}){re.escape(core.lower())}(?!{edge})", text) is not None
