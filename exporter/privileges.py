"""Effective capabilities of this process, capabilities(7): what it may already do."""

import os

CAPABILITY_BITS = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19}
"""Bits of linux/capability.h."""
READ_ANY_FILE = ("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")
"""Either of them is enough to read a file of any mode."""


def read_capabilities(procfs: str) -> frozenset[str]:
    """Those of `NUMBERS` that are in effect; none where they cannot be read."""
    try:
        with open(os.path.join(procfs, "self", "status"), encoding="ascii", errors="replace") as f:
            return capabilities(f.read())
    except OSError:
        return frozenset()


def capabilities(status: str) -> frozenset[str]:
    """Those of `NUMBERS` in the line `CapEff` of /proc/PID/status, proc_pid_status(5)."""
    for line in status.splitlines():
        name, _, mask = line.partition(":")
        if name == "CapEff":
            bits = int(mask, 16)
            return frozenset(name for name, bit in CAPABILITY_BITS.items() if bits >> bit & 1)
    return frozenset()


def missing_for_environments(held: frozenset[str]) -> tuple[str, ...]:
    """Capabilities that are not held and that environments of other users' processes require."""
    lacking = () if "CAP_SYS_PTRACE" in held else ("CAP_SYS_PTRACE",)
    return lacking if held.intersection(READ_ANY_FILE) else (*lacking, "CAP_DAC_READ_SEARCH")
