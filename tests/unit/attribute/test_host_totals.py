"""Parsing host totals and the clocks of one process from kernel files."""

import os

import pytest

from exporter.attribute.sources.procfs import Procfs
from exporter.attribute.workload_collector import MEMORY_EVERY_NS, HostTotals

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nAnonPages: 20 kB\nShmem: 5 kB\n")
    return tmp_path


def look(proc, totals, at_ns=0, **ticks):
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest")
    row = " ".join(str(ticks.get(name, 0)) for name in names)
    (proc / "stat").write_text(f"cpu  {row} 0\n")
    return totals.collect(at_ns)


def test_every_field_of_proc_stat_is_counted_as_defined(proc):
    totals = HostTotals(str(proc), None)
    look(proc, totals)
    fields = {"user": 1, "nice": 2, "system": 4, "idle": 8, "iowait": 16, "irq": 32, "softirq": 64}
    machine = look(proc, totals, steal=128, guest=1, **fields)
    assert machine.busy_us == (1 + 2 + 4 + 32 + 64) * TICK_US
    assert machine.total_us == machine.busy_us + (8 + 16) * TICK_US


@pytest.mark.parametrize("field", ["idle", "iowait"])
def test_idle_time_that_steps_back_does_not_reduce_busy_time(proc, field):
    totals = HostTotals(str(proc), None)
    look(proc, totals, user=100, **{field: 118_089})
    machine = look(proc, totals, user=150, **{field: 140})
    assert (machine.busy_us, machine.total_us) == (50 * TICK_US, 50 * TICK_US)
    assert look(proc, totals, user=160, **{field: 190}).total_us == 60 * TICK_US


def test_processors_are_counted_again_with_the_memory(proc, monkeypatch):
    totals = HostTotals(str(proc), None)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert look(proc, totals).threads == 2
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert look(proc, totals, at_ns=MEMORY_EVERY_NS).threads == 8


def test_clocks_of_a_process_are_read_from_a_recorded_line(tmp_path):
    """prometheus/procfs, testdata/fixtures.ttar: fixtures/proc/26231/stat."""
    (tmp_path / "26231").mkdir()
    (tmp_path / "26231/stat").write_text(
        "26231 (vim) R 5392 7446 5392 34835 7446 4218880 32533 309516 26 82 1677 44 158 99 20 0 1 "
        "0 82375 56274944 1981 18446744073709551615 4194304 6294284 140736914091744 "
        "140736914087944 139965136429984 0 0 12288 1870679807 0 0 0 17 0 0 0 31 0 0 8391624 "
        "8481048 16420864 140736914093252 140736914093279 140736914093279 140736914096107 0\n"
    )
    procfs = Procfs(str(tmp_path), 0, read_environments=False)
    process = procfs.discover("26231")
    assert process is not None
    assert (process.own_ticks, process.ended_ticks) == (1677 + 44, 158 + 99)
    assert (process.ppid, process.start) == (5392, 82375)
    assert procfs.read_clocks(process)
    assert process.resident == 1981
