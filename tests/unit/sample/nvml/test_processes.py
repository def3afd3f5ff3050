"""Processes of one GPU whose driver returns unusable answers to some calls."""

from types import SimpleNamespace

import pytest

from exporter.model.readings import Device, DeviceKind
from exporter.sample.sources.nvml.calls import NvmlError
from exporter.sample.sources.nvml.processes import GpuProcessReader, MigLayout
from tests.fakes import FakeClock

RUNNING = "nvmlDeviceGetComputeRunningProcesses_v3"
CLIENTS = "nvmlDeviceGetMPSComputeRunningProcesses_v3"
ACTIVITY = "nvmlDeviceGetProcessUtilization"
UTILIZATION = "nvmlDeviceGetUtilizationRates"
NO_INSTANCE = 0xFFFFFFFF
UNKNOWN_ERROR = 999
PROCESS = SimpleNamespace(pid=500, gpuInstanceId=NO_INSTANCE, computeInstanceId=NO_INSTANCE)
BAD = [
    None,
    SimpleNamespace(),
    [SimpleNamespace()],
    ValueError("embedded null byte"),
    UnicodeDecodeError("utf-8", b"\xf8", 0, 1, "invalid start byte"),
    OSError(5, "Input/output error"),
    NvmlError("a call", UNKNOWN_ERROR),
]


class Answers:
    """The driver's answers by name; an exception is raised."""

    def __init__(self, **answers):
        self._answers = {RUNNING: [PROCESS], UTILIZATION: SimpleNamespace(gpu=50), **answers}

    def call(self, name, *_):
        answer = self._answers.get(name, ())
        if isinstance(answer, Exception):
            raise answer
        return answer


def read_processes(**answers):
    tenants = GpuProcessReader(Answers(**answers), FakeClock(), Device(DeviceKind.GPU, "GPU-0"))
    return tenants.read(None, MigLayout())


@pytest.mark.parametrize("answer", [*BAD, *(SimpleNamespace(gpu=gpu) for gpu in (None, "50"))])
def test_an_unusable_utilization_affects_nothing_else(answer):
    seen = read_processes(**{UTILIZATION: answer})
    assert seen.utilization is None
    assert [process.pid for process in seen.gpu_processes] == [500]


@pytest.mark.parametrize("percent", [-1, 102, 255, 2**32 - 1, 8_076_000, float("nan")])
def test_an_implausible_utilization_is_unknown(percent):
    assert read_processes(**{UTILIZATION: SimpleNamespace(gpu=percent)}).utilization is None


@pytest.mark.parametrize("name", [CLIENTS, ACTIVITY])
@pytest.mark.parametrize("answer", BAD)
def test_an_unusable_answer_affects_no_other_call(name, answer):
    seen = read_processes(**{name: answer})
    assert seen.utilization == 0.5
    assert [(each.pid, each.active) for each in seen.gpu_processes] == [(500, 0.0)]


@pytest.mark.parametrize("answer", [each for each in BAD if not isinstance(each, NvmlError)])
def test_an_unusable_list_of_processes_is_a_failure(answer):
    with pytest.raises(NvmlError, match="unusable answer"):
        read_processes(**{RUNNING: answer})
