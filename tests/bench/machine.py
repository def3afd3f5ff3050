"""What else used the machine during a measurement, and the processes of this program."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

MAX_STEAL = 0.02
MAX_OTHERS = 0.15
"""Parts of the machine's CPU time beyond which a measurement is doubtful."""
IDLE, IOWAIT, STEAL, COUNTED = 3, 4, 7, 8
"""Fields of the first line of /proc/stat, proc_stat(5); the two after them are in `user`."""
PPID, CPU_TIMES = 1, slice(11, 15)
"""Fields after the name in /proc/PID/stat, proc_pid_stat(5): with those of waited-for children."""


class Usage(NamedTuple):
    """Use of the machine by others than this program and what it started."""

    steal: float
    """Part of the machine's CPU time that the hypervisor gave to other guests."""
    others: float
    """Part of the machine's CPU time that other programs used."""
    load: float
    """Load average over one minute at the end, this program included."""

    @property
    def is_noisy(self) -> bool:
        """Whether times of the measurement are doubtful."""
        return self.steal > MAX_STEAL or self.others > MAX_OTHERS

    def __str__(self) -> str:
        return f"{self.steal:.1%}, {self.others:.0%}, {self.load:.1f}"


@contextmanager
def watched(usages: dict[str, Usage], name: str) -> Iterator[None]:
    """Store in `usages` what else used the machine while the block ran."""
    own, machine = _own_ticks(), _machine_ticks()
    yield
    passed = [after - before for before, after in zip(machine, _machine_ticks(), strict=True)]
    whole = max(1, sum(passed))
    busy = whole - passed[IDLE] - passed[IOWAIT] - passed[STEAL]
    others = max(0, busy - (_own_ticks() - own))
    usages[name] = Usage(passed[STEAL] / whole, others / whole, os.getloadavg()[0])


def stat(pid: int) -> bytes:
    """The line /proc/PID/stat; raises OSError."""
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read()


def family(roots: Iterable[int]) -> dict[int, list[bytes]]:
    """The fields after the name in /proc/PID/stat of the processes and all their descendants."""
    every: dict[int, list[bytes]] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        try:
            fields = stat(int(name)).rpartition(b")")[2].split()
        except (ValueError, OSError):
            continue
        every[int(name)] = fields
        children.setdefault(int(fields[PPID]), []).append(int(name))
    found = [root for root in roots if root in every]
    for pid in found:
        found += children.get(pid, [])
    return {pid: every[pid] for pid in found}


def _own_ticks() -> int:
    """CPU time of this program and all that it started, in the kernel's ticks."""
    return sum(int(time) for each in family([os.getpid()]).values() for time in each[CPU_TIMES])


def _machine_ticks() -> list[int]:
    """CPU time of the machine in the kernel's ticks, by kind."""
    with open("/proc/stat", encoding="ascii") as file:
        return [int(field) for field in file.readline().split()[1 : COUNTED + 1]]
