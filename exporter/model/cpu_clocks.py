"""The machine's CPU clocks out of the text of /proc/stat."""

import re

from exporter.model.ledger import HostCpuTime

CPU_TIME_FIELD = re.compile(rb"-?\d+")
MAX_CPU_US = 1 << 59
"""18,000 years of CPU time; some emulations of procfs show idle times beyond that."""


def parse_proc_stat(stat: bytes, us_per_tick: int) -> HostCpuTime:
    """Busy and total CPU time since boot over all threads, from the first line of proc_stat(5).

    Time of guests is already inside user and nice (account_guest_time in kernel/sched/cputime.c).
    Waiting for a disk is not busy. Steal is what the hypervisor gave to others, so no time of this
    machine, and its count is not to be trusted anyway: after a live migration it may be anything.
    `us_per_tick` is a million over `SC_CLK_TCK`.

    Linux before 2.6 has only the first four fields; a field that is not there is 0.

    Raises ValueError where the text begins with anything else, or with times that no machine has.
    """
    fields = stat.split(b"\n", 1)[0].split()
    if (
        len(fields) < 5
        or fields[0] != b"cpu"
        or not all(map(CPU_TIME_FIELD.fullmatch, fields[1:8]))
    ):
        raise ValueError("does not begin with the CPU times of the machine")
    user, nice, system, idle, iowait, irq, softirq = map(int, (*fields[1:8], b"0", b"0", b"0")[:7])
    busy = user + nice + system + irq + softirq
    total = busy + idle + iowait
    if not 0 <= total * us_per_tick < MAX_CPU_US:
        raise ValueError("begins with CPU times that no machine has")
    return HostCpuTime(busy * us_per_tick, total * us_per_tick)


def count_cpus(stat: bytes) -> int:
    """Number of online CPUs by the `cpuN` rows of proc_stat(5); 0 where it has none."""
    return len(re.findall(rb"^cpu\d+ ", stat, re.MULTILINE))
