"""CPU times of the machine from /proc/stat."""

import pytest

from exporter.model.cpu_clocks import count_cpus, parse_proc_stat
from exporter.model.ledger import HostCpuTime


def test_iowait_is_not_busy_and_steal_is_ignored():
    stat = b"cpu  1 2 4 8 16 32 64 128 1 1\ncpu0 9 9 9 9 9 9 9 9 9 9\n"
    assert parse_proc_stat(stat, 10) == HostCpuTime(busy_us=1030, total_us=1270)


@pytest.mark.parametrize(
    "stat", [b"", b"cpu 1 2 3\n", b"intr 1 2 3 4 5 6 7 8 9\n", b"cpu a b c d\n", b"cpu 1_0 2 3 4\n"]
)
def test_any_other_text_is_refused(stat):
    with pytest.raises(ValueError, match="the first line does not contain the CPU times"):
        parse_proc_stat(stat, 10)


NODE_EXPORTER = b"""\
cpu  301854 612 111922 8979004 3552 2 3944 0 44 36
cpu0 44490 19 21045 1087069 220 1 3410 0 2 1
cpu1 47869 23 16474 1110787 591 0 46 0 3 2
cpu2 46504 36 15916 1112321 441 0 326 0 4 3
cpu3 47054 102 15683 1113230 533 0 60 0 5 4
cpu4 28413 25 10776 1140321 217 0 8 0 6 5
cpu5 29271 101 11586 1136270 672 0 30 0 7 6
cpu6 29152 36 10276 1139721 319 0 29 0 8 7
cpu7 29098 268 10164 1139282 555 0 31 0 9 8
intr 8885917 17 0 0 0 0 0 0 0 1 79281
ctxt 38014093
btime 1418183276
processes 26442
procs_running 2
procs_blocked 0
softirq 5057579 250191 1481983 1647 211099 186066 0 1783454 622196 12499 508444
"""
"""prometheus/node_exporter at 6a1d29e, collector/fixtures/proc/stat; the row intr is shortened."""


@pytest.mark.parametrize(
    ("line", "busy_ticks", "idle_ticks"),
    [
        pytest.param(
            NODE_EXPORTER, 301854 + 612 + 111922 + 2 + 3944, 8979004 + 3552, id="recorded machine"
        ),
        pytest.param(  # the example of proc_stat(5), man-pages 6.9: guests ran for 175628 ticks
            b"cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0\n",
            10132153 + 290696 + 3084719 + 25195,
            46828483 + 16683,
            id="host of virtual machines",
        ),
        pytest.param(  # Linux, Documentation/filesystems/proc.rst at 03c11eb, section 1.7
            b"cpu  237902850 368826709 106375398 1873517540 1135548 0 14507935 0 0 0\n",
            237902850 + 368826709 + 106375398 + 14507935,
            1873517540 + 1135548,
            id="kernel documentation",
        ),
        pytest.param(  # github.com/influxdata/telegraf/issues/2871, a guest of XenServer
            b"cpu  8496572 305946 943142 328322278 3023148 0 63260 194028 0 0\n",
            8496572 + 305946 + 943142 + 63260,
            328322278 + 3023148,
            id="guest with stolen time",
        ),
        pytest.param(  # github.com/influxdata/telegraf/issues/3885, a guest at AWS
            b"cpu  5653582 827 3220601 1281540974 85144 0 90281 35312117399 0 0\n",
            5653582 + 827 + 3220601 + 90281,
            1281540974 + 85144,
            id="guest with more stolen time than it has lived",
        ),
        pytest.param(  # proc_stat(5): seven fields until Linux 2.6.11, guest from 2.6.24
            b"cpu  2255 34 2290 22625563 6290 127 456\n",
            2255 + 34 + 2290 + 127 + 456,
            22625563 + 6290,
            id="Linux 2.6.0",
        ),
        pytest.param(  # proc_stat(5): iowait from Linux 2.5.41, irq and softirq from 2.6.0
            b"cpu  2255 34 2290 22625563\n", 2255 + 34 + 2290, 22625563, id="Linux 2.4"
        ),
        pytest.param(  # github.com/lxc/lxcfs/issues/177: no guest_nice in the row of all CPUs
            b"cpu  10 20 30 40 50 60 70 80 90\n", 10 + 20 + 30 + 60 + 70, 40 + 50, id="lxcfs"
        ),
    ],
)
def test_recorded_times_are_summed(line, busy_ticks, idle_ticks):
    expected = HostCpuTime(busy_ticks * 10_000, (busy_ticks + idle_ticks) * 10_000)
    assert parse_proc_stat(line, 10_000) == expected


@pytest.mark.parametrize(
    "line",
    [
        # github.com/lxc/lxcfs/issues/311: idle times inside containers
        b"cpu  13337485 0 0 8317131874320235395 0 0 0 0 0 0\n",
        b"cpu  1091037 0 0 11732815868058135187 0 0 0 0 0 0\n",
    ],
)
def test_implausible_times_are_refused(line):
    with pytest.raises(ValueError, match="implausible"):
        parse_proc_stat(line, 10_000)


def test_cpus_are_counted_by_their_rows():
    assert count_cpus(NODE_EXPORTER) == 8
    assert count_cpus(b"cpu  1 2 3 4\nintr 5 cpu0 \n") == 0
