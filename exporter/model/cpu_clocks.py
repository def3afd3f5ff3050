"""The machine's CPU clocks out of the text of /proc/stat."""

import re

from exporter.model.books import MachineCpu


def parse_cpu_clocks(stat: bytes, us_per_tick: int) -> MachineCpu:
    """Busy and total CPU time since boot over all threads, from the first line of proc_stat(5).

    Time of guests is already inside user and nice. Waiting for a disk is not busy. What the
    hypervisor gave to others is no time of this machine: where a thread was idle meanwhile, the
    kernel has counted it as idle already. `us_per_tick` is a million over `SC_CLK_TCK`.

    Linux before 2.6 has only the first four fields; a field that is not there is 0.

    Raises ValueError where the text begins with anything else.
    """
    fields = stat.split(b"\n", 1)[0].split()
    if len(fields) < 5 or fields[0] != b"cpu":
        raise ValueError("does not begin with the CPU times of the machine")
    user, nice, system, idle, iowait, irq, softirq = map(int, (*fields[1:8], b"0", b"0", b"0")[:7])
    busy = user + nice + system + irq + softirq
    total = busy + idle + iowait
    return MachineCpu(busy * us_per_tick, total * us_per_tick)


def count_cpus(stat: bytes) -> int:
    """Number of online CPUs by the `cpuN` rows of proc_stat(5); 0 where it has none."""
    return len(re.findall(rb"^cpu\d+ ", stat, re.MULTILINE))
