"""Parser of the CPU times of the machine in /proc/stat."""

import re

from exporter.model.ledger import HostCpuTime

CPU_TIME_FIELD = re.compile(rb"-?\d+")
MAX_CPU_US = 1 << 59
"""Upper bound of CPU times, 18,000 years; some emulations of procfs show idle times beyond it."""


def parse_proc_stat(stat: bytes, us_per_tick: int) -> HostCpuTime:
    """Return busy and total CPU time since boot over all threads, from the first line of stat.

    Format: proc_stat(5). Guest time is included in user and nice (account_guest_time in
    kernel/sched/cputime.c). iowait is not busy. Steal is time of other guests and is ignored; its
    counter is also unreliable after a live migration. `us_per_tick` is 1,000,000 / `SC_CLK_TCK`.

    Linux before 2.6 has only the first four fields; missing fields count as 0.

    Raises ValueError if the first line has another format or implausible times.
    """
    fields = stat.split(b"\n", 1)[0].split()
    if (
        len(fields) < 5
        or fields[0] != b"cpu"
        or not all(map(CPU_TIME_FIELD.fullmatch, fields[1:8]))
    ):
        raise ValueError("the first line does not contain the CPU times of the machine")
    user, nice, system, idle, iowait, irq, softirq = map(int, (*fields[1:8], b"0", b"0", b"0")[:7])
    busy = user + nice + system + irq + softirq
    total = busy + idle + iowait
    if not 0 <= total * us_per_tick < MAX_CPU_US:
        raise ValueError("the CPU times in the first line are implausible")
    return HostCpuTime(busy * us_per_tick, total * us_per_tick)


def count_cpus(stat: bytes) -> int:
    """Return the number of online CPUs by the `cpuN` rows of proc_stat(5); 0 if there are none."""
    return len(re.findall(rb"^cpu\d+ ", stat, re.MULTILINE))
