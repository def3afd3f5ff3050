"""A run holds a GPU from the first context of its processes to the last."""

import pytest

from exporter.model.readings import Device, DeviceKind, GpuActivity, GpuProcess
from exporter.model.runs import RunKey
from exporter.model.workload import GpuHolding

GPU, OTHER = Device(DeviceKind.GPU, "GPU-1"), Device(DeviceKind.GPU, "GPU-2")
A, B = RunKey(1, "a", ""), RunKey(1, "b", "")


@pytest.fixture
def gpus(host):
    return Gpus(host)


class Gpus:
    """A host with processes 10 and 11, and GPUs whose activity is read on request of a test."""

    def __init__(self, host):
        self.host = host
        self.seen = {}
        host.proc.process(10)
        host.proc.process(11)
        host.look()

    def looked(self, *pids, device=GPU, partition="", why=""):
        now_ns = self.host.clock.now_ns
        gpu_processes = tuple(GpuProcess(pid, partition) for pid in pids)
        self.seen[device] = GpuActivity(device, now_ns, gpu_processes, why=why)
        return now_ns

    def look(self):
        """Holdings and owners of the next tick, a second later."""
        self.host.look(self.seen)
        return self.host.workload.holdings, dict(self.host.workload.run_of_pid)


def test_a_holding_lasts_from_the_first_reading_with_a_context_to_the_first_without(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A})
    gpus.looked(10)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A})
    ended = gpus.looked()
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began, until_ns=ended),), {})
    assert gpus.look() == ((), {})


def test_several_processes_of_a_run_are_one_holding(gpus):
    gpus.host.start(10, "a")
    gpus.host.proc.process(12, ppid=10, start=200)
    gpus.host.look()
    began = gpus.looked(10, 12)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A, 12: A})
    gpus.looked(12)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {12: A})


def test_a_run_may_hold_several_devices_and_a_partition(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    gpus.looked(10, device=OTHER, partition="MIG-1")
    holdings, _ = gpus.look()
    assert set(holdings) == {
        GpuHolding(GPU, A, since_ns=began),
        GpuHolding(OTHER, A, "MIG-1", since_ns=began),
    }


def test_a_process_of_no_run_holds_nothing_and_has_no_owner(gpus):
    gpus.looked(10, 99)
    assert gpus.look() == ((), {})


def test_a_process_exit_ends_its_holding_and_keeps_its_run(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    gpus.look()
    gpus.host.proc.gone(10)
    holdings, owners = gpus.look()
    assert holdings == (GpuHolding(GPU, A, since_ns=began, until_ns=gpus.host.clock.now_ns),)
    assert owners == {10: A}
    assert not gpus.host.run_registry.is_open(A)
    assert gpus.look() == ((), {10: A})
    gpus.looked()
    assert gpus.look() == ((), {})


def test_a_reused_pid_is_a_different_process(gpus):
    gpus.host.start(10, "a")
    gpus.looked(10)
    gpus.look()
    gpus.host.proc.gone(10)
    gpus.host.look(gpus.seen)
    gpus.host.proc.process(10, start=round(gpus.host.clock.now_ns / 1e7))
    gpus.host.look(gpus.seen)
    gpus.host.start(10, "b")
    assert gpus.look() == ((), {10: A})


def test_a_run_started_in_a_process_with_a_context_holds_from_its_start(gpus):
    gpus.looked(10)
    gpus.look()
    began = gpus.host.clock.now_ns
    gpus.host.start(10, "a")
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A})


def test_a_run_that_ends_before_its_process_holds_until_its_end(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    gpus.look()
    ended = gpus.host.clock.now_ns
    gpus.host.end("a", pid=10)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began, until_ns=ended),), {10: A})
    assert gpus.look() == ((), {})


def test_the_innermost_run_holds(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    gpus.look()
    changed = gpus.host.clock.now_ns
    gpus.host.start(10, "b")
    assert gpus.look() == (
        (
            GpuHolding(GPU, A, since_ns=began, until_ns=changed),
            GpuHolding(GPU, B, since_ns=changed),
        ),
        {10: B},
    )


MPS_SERVER = "nvidia-cuda-mps"  # what the kernel keeps of its name


def test_an_mps_server_holds_nothing_beside_the_runs_of_its_clients(gpus):
    gpus.host.proc.process(12, name=MPS_SERVER)
    gpus.host.look()
    gpus.host.start(10, "a")
    gpus.host.start(12, "b")
    began = gpus.looked(10, 12)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A, 12: B})
    assert gpus.host.workload.proxy_pids == {12}


@pytest.mark.parametrize("partition", ["", "MIG-1"])
def test_an_mps_server_without_visible_clients_holds_for_its_own_run(gpus, partition):
    gpus.host.proc.process(12, name=MPS_SERVER)
    gpus.host.look()
    gpus.host.start(12, "b")
    began = gpus.looked(12, partition=partition)
    gpus.host.start(10, "a")
    gpus.looked(10, device=OTHER)
    holdings, _ = gpus.look()
    assert GpuHolding(GPU, B, partition, since_ns=began, is_proxy=True) in holdings


def test_an_mps_server_keeps_its_partition_beside_holders_of_other_partitions(gpus):
    gpus.host.proc.process(12, name=MPS_SERVER)
    gpus.host.look()
    gpus.host.start(10, "a")
    gpus.host.start(12, "b")
    gpu_holdings = (GpuProcess(10, "MIG-1"), GpuProcess(12, "MIG-2"))
    gpus.seen[GPU] = GpuActivity(GPU, gpus.host.clock.now_ns, gpu_holdings)
    holdings, _ = gpus.look()
    assert {row.run for row in holdings} == {A, B}


def test_the_exit_of_a_proxy_ends_its_holding(gpus):
    gpus.host.proc.process(12, name=MPS_SERVER)
    gpus.host.look()
    gpus.host.start(12, "b")
    began = gpus.looked(12)
    gpus.look()
    gpus.host.proc.gone(12)
    ((held,), _) = gpus.look()
    ended = gpus.host.clock.now_ns
    assert held == GpuHolding(GPU, B, since_ns=began, until_ns=ended, is_proxy=True)


def test_a_driver_that_does_not_answer_ends_no_holding(gpus):
    gpus.host.start(10, "a")
    began = gpus.looked(10)
    gpus.look()
    gpus.looked(why="the driver is busy")
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A})


def test_contexts_in_the_first_reading_existed_before_it(gpus):
    gpus.host.start(10, "a")
    gpus.look()
    began = gpus.host.clock.now_ns
    gpus.host.clock.advance(0.25)
    gpus.looked(10)
    assert gpus.look() == ((GpuHolding(GPU, A, since_ns=began),), {10: A})
