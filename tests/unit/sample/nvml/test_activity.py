"""Activity of processes from the samples of the driver."""

from types import SimpleNamespace

import pytest

from exporter.sample.sources.nvml.calls import NOT_SUPPORTED
from exporter.sample.sources.nvml.processes import mean_activity_by_pid
from exporter.worker import wait_until
from tests.fakes import FakeClock
from tests.unit.sample.nvml.conftest import SOON, gpu

UTILIZATION = "nvmlDeviceGetProcessUtilization"


def sample(pid, stamp_us, percent):
    return SimpleNamespace(pid=pid, timeStamp=stamp_us, smUtil=percent)


def test_equally_active_processes_are_equal_whenever_each_was_last_seen():
    assert mean_activity_by_pid([sample(7044, 3_175_000, 50), sample(7180, 3_000_000, 50)]) == {
        7044: 0.5,
        7180: 0.5,
    }


def test_a_process_missing_in_some_samples_was_idle_in_those():
    samples = [sample(1, 1, 80), sample(1, 2, 80), sample(2, 2, 80)]
    assert mean_activity_by_pid(samples) == {1: 0.8, 2: 0.4}


def test_no_samples_are_no_activity():
    assert mean_activity_by_pid([]) == {}


def workload(*actives):
    return [
        {
            "starts": 0,
            "ends": 600,
            "gpus": [{"id": "GPU-0", "pid": 100 + index, "active": [[0, active]]}],
        }
        for index, active in enumerate(actives)
    ]


@pytest.fixture
def still(bench):
    """A GPU whose driver has the time of the collector's clock."""

    def make(rows):
        clock = FakeClock()
        one = bench(gpu(0), clock=clock, workload=rows)
        one.fake.set_time(clock.boottime_ns() / 1e9, clock.wall())
        return one

    return make


def test_one_busy_process_is_known_for_nearly_all_of_the_time(still):
    one = still(workload(0.8))
    activity = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity[0]
    assert activity.coverage > 0.9
    assert [each.active for each in activity.gpu_processes] == [pytest.approx(0.8, abs=0.01)]


def test_two_processes_have_the_activity_that_each_had(still):
    one = still(workload(0.2, 0.6))
    activity = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity[0]
    assert [each.active for each in activity.gpu_processes] == [
        pytest.approx(0.2, abs=0.01),
        pytest.approx(0.6, abs=0.01),
    ]


def test_no_activity_is_lost_if_ticks_are_further_apart_than_polls(bench):
    clock = FakeClock()
    one = bench(gpu(0), clock=clock, workload=workload(0.5))
    one.until(one.is_healthy)
    one.fake.fault("nvmlDeviceGetComputeRunningProcesses_v3", delay_ms=20)
    came = 0
    for _ in range(6):
        clock.advance(10)
        came += len(one.read().gpu_activity)
        assert wait_until(lambda: not one.nvml._supervisor.cards[0].is_busy(), SOON)
    assert came >= 5


def test_processes_that_may_not_be_listed_are_unknown_and_not_none(bench):
    one = bench(gpu(0), workload=workload(0.5))
    one.fake.fault("nvmlDeviceGetComputeRunningProcesses_v3", NOT_SUPPORTED)
    observation = one.until(lambda seen: bool(seen.gpu_activity) and seen.gpu_activity[0].why != "")
    assert "nvmlDeviceGetComputeRunningProcesses_v3" in observation.gpu_activity[0].why
