"""Measures a real NVIDIA GPU: how true its counter is, what its driver costs, what we add.

python -m tests.gpu.measure FILE [--seconds N]

Writes what it found as JSON to FILE; without a GPU it says so, and exits with 0.
"""

import argparse
import datetime as dt
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml as nvml

from tests.real.parts import REPOSITORY, Daemon, until

INSTANT, AVERAGE, ENERGY = 186, 185, 83
POLL_SECONDS = 0.05
WARM_SECONDS = 5.0
PERCENT = 100


def main() -> int:
    """Measure the first GPU; 1 if the exporter disagrees with the card's own counter."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=90.0, help="of the longest measurement")
    given = parser.parse_args()
    try:
        nvml.nvmlInit()
        gpu = nvml.nvmlDeviceGetHandleByIndex(0)
    except nvml.NVMLError as error:
        say(f"skipped: there is no NVIDIA GPU here ({error})")
        return 0
    found = {**card(gpu), "date": dt.datetime.now(dt.UTC).date().isoformat()}
    steps: dict[str, Callable[[], Any]] = {
        "idle_watts_without_exporter": lambda: idle_watts(gpu, given.seconds / 3),
        "idle_watts_with_exporter": lambda: idle_watts_beside(gpu, given.seconds / 3),
        "call_microseconds": lambda: call_costs(gpu),
        "counter_update_ms": lambda: update_ms(gpu),
        "counter_against_power": lambda: counter_against_power(gpu, given.seconds),
        "two_processes": lambda: two_processes(gpu),
        "restart": lambda: restart(gpu, given.seconds / 3),
    }
    for name, step in steps.items():
        say(name)
        found[name] = step()
        given.file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    say(json.dumps(found, indent=2))
    return int(abs(found["restart"]["error_percent"]) > 0.1)


def card(gpu: Any) -> dict[str, object]:
    """Which card and driver this is."""
    return {
        "model": nvml.nvmlDeviceGetName(gpu),
        "uuid": nvml.nvmlDeviceGetUUID(gpu),
        "driver": nvml.nvmlSystemGetDriverVersion(),
        "power_limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
        "architecture": nvml.nvmlDeviceGetArchitecture(gpu),
    }


def joules(gpu: Any) -> float:
    """The energy counter."""
    return nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000


def idle_watts(gpu: Any, seconds: float) -> float:
    """Mean power by the counter, read only at the ends."""
    time.sleep(WARM_SECONDS)
    before, began = joules(gpu), time.monotonic()
    time.sleep(seconds)
    return round((joules(gpu) - before) / (time.monotonic() - began), 3)


def idle_watts_beside(gpu: Any, seconds: float) -> float:
    """The same while the exporter reads the card each second."""
    with daemon():
        return idle_watts(gpu, seconds)


def call_costs(gpu: Any) -> dict[str, float]:
    """Median microseconds of each call that the exporter makes, at 10 Hz."""
    fields = [(INSTANT, 0), (AVERAGE, 0), (AVERAGE, 2), (ENERGY, 0)]
    calls: dict[str, Callable[[], object]] = {
        "nvmlDeviceGetFieldValues x4": lambda: nvml.nvmlDeviceGetFieldValues(gpu, fields),
        "nvmlDeviceGetTotalEnergyConsumption": lambda: joules(gpu),
        "nvmlDeviceGetPowerUsage": lambda: nvml.nvmlDeviceGetPowerUsage(gpu),
        "nvmlDeviceGetUtilizationRates": lambda: nvml.nvmlDeviceGetUtilizationRates(gpu),
        "nvmlDeviceGetComputeRunningProcesses_v3": lambda: (
            nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)
        ),
        "nvmlDeviceGetProcessUtilization": lambda: utilization(gpu, 0),
    }
    costs = {}
    for name, call in calls.items():
        times = []
        for _ in range(20):
            time.sleep(0.1)
            began = time.perf_counter()
            try:
                call()
            except nvml.NVMLError as error:
                say(f"  {name}: {error}")
                break
            times.append((time.perf_counter() - began) * 1e6)
        if times:
            costs[name] = round(statistics.median(times), 1)
    return costs


def update_ms(gpu: Any) -> dict[str, float]:
    """Milliseconds between two changes of the counter, under load."""
    with load(gpu, 1, 0, 10):
        time.sleep(2)
        changes, last = [], joules(gpu)
        until_time = time.monotonic() + 5
        while time.monotonic() < until_time:
            now = joules(gpu)
            if now != last:
                changes.append(time.monotonic())
                last = now
    gaps = [(after - before) * 1000 for before, after in itertools.pairwise(changes)]
    return {"median": round(statistics.median(gaps), 2), "max": round(max(gaps), 2)}


def counter_against_power(gpu: Any, seconds: float) -> dict[str, float]:
    """Joules of the counter and of integrated power, over bursts of load."""
    sums = {INSTANT: 0.0, AVERAGE: 0.0}
    with load(gpu, 0.9, 0.6, seconds + WARM_SECONDS):
        time.sleep(2)
        before, last = joules(gpu), time.monotonic()
        until_time = last + seconds
        while last < until_time:
            time.sleep(POLL_SECONDS)
            values = nvml.nvmlDeviceGetFieldValues(gpu, [(field, 0) for field in sums])
            now = time.monotonic()
            for value in values:
                if value.nvmlReturn == 0:
                    sums[value.fieldId] += value.value.uiVal / 1000 * (now - last)
            last = now
        counted = joules(gpu) - before
    return {
        "seconds": seconds,
        "counter_joules": round(counted, 1),
        "instant_power_joules": round(sums[INSTANT], 1),
        "average_power_joules": round(sums[AVERAGE], 1),
    }


def two_processes(gpu: Any) -> dict[str, object]:
    """What the driver says of two processes on one card: one busy always, one a third."""
    with load(gpu, 1, 0, 15) as first, load(gpu, 0.5, 1.0, 15) as second:
        time.sleep(4)
        since = int(time.time() * 1e6)
        time.sleep(6)
        samples = utilization(gpu, since)
        seen = {process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)}
        names = {first.pid: "busy", second.pid: "a third"}
        means: dict[str, float] = {}
        for pid, name in names.items():
            own = [sample.smUtil for sample in samples if sample.pid == pid]
            means[name] = round(statistics.mean(own), 1) if own else 0.0
        return {
            "sm_percent": means,
            "samples": len(samples),
            "pids_are_ours": names.keys() <= seen,
        }


def utilization(gpu: Any, since_us: int) -> list[Any]:
    """Samples of all processes; the binding raises where there are none."""
    try:
        return list(nvml.nvmlDeviceGetProcessUtilization(gpu, since_us))
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_SUCCESS, nvml.NVML_ERROR_NOT_FOUND):
            return []
        raise


def restart(gpu: Any, seconds: float) -> dict[str, float]:
    """The exporter's total and the card's counter, over a kill -9 in the middle of a load."""
    uuid = nvml.nvmlDeviceGetUUID(gpu)

    def total(running: Daemon) -> tuple[int, int]:
        device = until(lambda: running.devices().get(uuid), what="the GPU is shown")
        return int(device["energy_uj"]), int(joules(gpu) * 1_000_000)

    with daemon() as running, load(gpu, 0.9, 0.6, seconds + WARM_SECONDS):
        time.sleep(2)
        shown, raw = total(running)
        time.sleep(seconds / 3)
        running.kill()
        time.sleep(seconds / 3)
        running.start()
        time.sleep(seconds / 3)
        shown_after, raw_after = total(running)
    counted, exported = raw_after - raw, shown_after - shown
    return {
        "counter_joules": counted / 1e6,
        "exported_joules": exported / 1e6,
        "error_percent": round((exported / counted - 1) * PERCENT, 4),
    }


@contextmanager
def daemon() -> Iterator[Daemon]:
    """The exporter, on this machine."""
    with tempfile.TemporaryDirectory() as directory:
        running = Daemon(Path(directory))
        running.start()
        try:
            yield running
        finally:
            running.stop()


@contextmanager
def load(gpu: Any, busy: float, idle: float, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """A process that keeps the card busy in bursts."""
    uuid = nvml.nvmlDeviceGetUUID(gpu)
    command = [sys.executable, "-m", "tests.gpu.load", uuid, str(busy), str(idle), str(seconds)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the load did not start"
        yield process
    finally:
        process.kill()
        process.wait()


def say(text: str) -> None:
    """Tell what is being measured."""
    print(f"test-gpu: {text}", file=sys.stderr, flush=True)  # noqa: T201  a program prints


if __name__ == "__main__":
    sys.exit(main())
