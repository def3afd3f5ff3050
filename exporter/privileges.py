"""Effective capabilities of this process, capabilities(7)."""

import os
import re

CAPABILITY_BITS = {"CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19}
"""Bit numbers from linux/capability.h."""
READ_ANY_FILE = ("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")
"""Capabilities each of which suffices to read a file of any mode."""


def read_capabilities(procfs: str) -> frozenset[str]:
    """Return the effective capabilities among `CAPABILITY_BITS`; none if they cannot be read."""
    try:
        with open(os.path.join(procfs, "self", "status"), encoding="ascii", errors="replace") as f:
            return capabilities(f.read())
    except OSError:
        return frozenset()


def capabilities(status: str) -> frozenset[str]:
    """Parse the line `CapEff` of /proc/PID/status, proc_pid_status(5)."""
    for line in status.splitlines():
        name, _, mask = line.partition(":")
        if name == "CapEff" and re.fullmatch(r"\s*[0-9a-f]+", mask):
            bits = int(mask, 16)
            return frozenset(name for name, bit in CAPABILITY_BITS.items() if bits >> bit & 1)
    return frozenset()


def missing_for_environments(held: frozenset[str]) -> tuple[str, ...]:
    """Return the missing capabilities for reading environments of other users' processes."""
    lacking = () if "CAP_SYS_PTRACE" in held else ("CAP_SYS_PTRACE",)
    return lacking if held.intersection(READ_ANY_FILE) else (*lacking, "CAP_DAC_READ_SEARCH")
