"""Names of Intel's discrete GPUs by PCI device id.

Source: the PCI ID Repository, pci.ids of 2026-08-22 (vendor 8086), names in brackets.
"""

from types import MappingProxyType

_ARC_A = {
    "0x5690": "A770M",
    "0x5691": "A730M",
    "0x5692": "A550M",
    "0x5693": "A370M",
    "0x5694": "A350M",
    "0x5696": "A570M",
    "0x5697": "A530M",
    "0x56a0": "A770",
    "0x56a1": "A750",
    "0x56a2": "A580",
    "0x56a5": "A380",
    "0x56a6": "A310",
    "0x56b0": "Pro A30M",
    "0x56b1": "Pro A40/A50",
    "0x56b2": "Pro A60M",
    "0x56b3": "Pro A60",
    "0x56ba": "A380E",
    "0x56bb": "A310E",
    "0x56bc": "A370E",
    "0x56bd": "A350E",
    "0x56be": "A750E",
    "0x56bf": "A580E",
}
_ARC_B = {
    "0xe20b": "B580",
    "0xe20c": "B570",
    "0xe211": "Pro B60",
    "0xe212": "Pro B50",
    "0xe222": "Pro B65",
    "0xe223": "Pro B70",
}
_DATA_CENTER = {
    "0x0b69": "Max 1450",
    "0x0b6e": "Max 1100C",
    "0x0bd4": "Max 1550VG",
    "0x0bd5": "Max 1550",
    "0x0bd6": "Max 1550",
    "0x0bd7": "Max 1350",
    "0x0bd8": "Max 1350",
    "0x0bd9": "Max 1100",
    "0x0bda": "Max 1100",
    "0x0bdb": "Max 1100",
    "0x56c0": "Flex 170",
    "0x56c1": "Flex 140",
    "0x56c2": "Flex 170V",
}
MODELS = MappingProxyType(
    {
        "0x4905": "Intel Iris Xe MAX",
        "0x4907": "Intel Server GPU SG-18M",
        **{key: f"Intel Arc {name}" for key, name in (_ARC_A | _ARC_B).items()},
        **{key: f"Intel Data Center GPU {name}" for key, name in _DATA_CENTER.items()},
    }
)


def model_name(device_id: str) -> str:
    """Return the name of a GPU by its device id as in sysfs, such as "0x56a0"."""
    return MODELS.get(device_id, f"Intel GPU {device_id}".rstrip())
