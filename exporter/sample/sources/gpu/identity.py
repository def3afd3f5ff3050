"""Identity and description of GPUs: unique ids, plausible limits, and values known from before."""

from collections import Counter
from collections.abc import Iterable, Sequence

from exporter.model.readings import Device, DeviceInfo
from exporter.sample.sources.gpu.driver import ListedGpu

UNKNOWN_MODEL = "unknown GPU"
WHOLE_MODULE_SUFFIX = " (whole module: GPU and CPU)"
"""Of the model of a GPU whose energy includes that of the processor on the same module."""
FALLBACK_CAP_WATTS = 1500.0
PLAUSIBLE_LIMITS_WATTS = (10.0, 10_000.0)
"""Range of plausible power limits of a GPU or module; others are ignored."""


def plausible_limit_watts(limit_watts: float | None) -> float | None:
    """Return a reported power limit; None if it is implausible."""
    least, most = PLAUSIBLE_LIMITS_WATTS
    return limit_watts if limit_watts is not None and least <= limit_watts <= most else None


def power_cap_watts(limit_watts: float | None) -> float:
    """Return the bound of plausible power of a GPU with this power limit; None: not known."""
    return 2 * limit_watts if limit_watts is not None else FALLBACK_CAP_WATTS


def with_previous_info(info: DeviceInfo, known: DeviceInfo) -> DeviceInfo:
    """Return the description with missing values replaced by those that are already `known`."""
    if info.model == UNKNOWN_MODEL:
        info = info._replace(model=known.model)
    if info.power_limit_watts is None:
        info = info._replace(
            power_limit_watts=known.power_limit_watts, power_cap_watts=known.power_cap_watts
        )
    return info._replace(
        pci_bus_id=info.pci_bus_id or known.pci_bus_id, aliases=info.aliases or known.aliases
    )


def with_unique_ids(listed: Iterable[ListedGpu], known: Iterable[DeviceInfo]) -> list[ListedGpu]:
    """Return the GPUs with unique ids, in case several report the same id.

    The first of them keeps the id, the others get their PCI address appended, and each keeps the
    id under which it is `known`. GPUs with the same id and address, or without an address, are
    merged into one.
    """
    by_address = {(each.info.device, each.info.pci_bus_id): each for each in listed}
    known_addresses = {(info.device, info.pci_bus_id) for info in known}

    def is_new(each: ListedGpu) -> bool:
        return (each.info.device, each.info.pci_bus_id) not in known_addresses

    unique: dict[Device, ListedGpu] = {}
    for each in sorted(by_address.values(), key=is_new):
        other = _with_address(each)
        chosen = other if each.info.device in unique or not is_new(other) else each
        unique.setdefault(chosen.info.device, chosen)
    return list(unique.values())


def _with_address(listed: ListedGpu) -> ListedGpu:
    device = listed.info.device
    if not listed.info.pci_bus_id:
        return listed
    unique = device._replace(id=f"{device.id}@{listed.info.pci_bus_id}")
    return listed._replace(info=listed.info._replace(device=unique))


def duplicate_id_notes(listed: Sequence[ListedGpu], unique: Sequence[ListedGpu]) -> list[str]:
    """Return notes on GPUs that report the same id."""
    notes = []
    for uuid, count in Counter(each.info.device.id for each in listed).items():
        if count > 1:
            ids = [each.info.device.id for each in unique]
            others = sorted(each for each in ids if each.startswith(f"{uuid}@"))
            how = f"distinguished as {', '.join(others)}" if others else "read as one GPU"
            notes.append(f"{count} GPUs report the UUID {uuid}: {how}")
    return notes
