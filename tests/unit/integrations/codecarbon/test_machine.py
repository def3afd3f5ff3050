"""Utilization as CodeCarbon has it, which asks `psutil` each second."""

import psutil
import pytest

from exporter.integrations.codecarbon import csv_writer
from exporter.integrations.codecarbon.csv_writer import Utilization, busy_percent

IDLE = psutil.cpu_times()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 100.0))


@pytest.mark.parametrize(
    "spent",
    [
        {"user": 3.0, "idle": 1.0},
        {"system": 0.5, "iowait": 1.5, "idle": 2.0},
        {"user": 2.0, "guest": 1.0, "nice": 1.0, "guest_nice": 0.5, "idle": 1.0},
        {"steal": 1.0, "irq": 0.25, "softirq": 0.25, "idle": 2.5},
        {"user": 1.0, "idle": -0.5, "iowait": -0.25},
    ],
)
def test_processors_are_as_busy_as_psutil_says(monkeypatch, spent):
    after = IDLE._replace(**{name: getattr(IDLE, name) + each for name, each in spent.items()})
    monkeypatch.setattr(psutil, "cpu_times", lambda: IDLE)
    psutil.cpu_percent()
    monkeypatch.setattr(psutil, "cpu_times", lambda: after)
    assert round(busy_percent(IDLE, after), 1) == psutil.cpu_percent()


def test_no_time_has_no_utilization():
    assert busy_percent(IDLE, IDLE) == ""


def test_memory_is_the_mean_of_what_was_seen(monkeypatch):
    memory = psutil.virtual_memory()
    used = iter([(10.0, 1 << 30), (20.0, 2 << 30), (60.0, 6 << 30)])

    def sample():
        percent, size = next(used)
        return IDLE, memory._replace(percent=percent, used=size)

    monkeypatch.setattr(csv_writer, "_sample", sample)
    utilization = Utilization()
    assert utilization.columns()["ram_utilization_percent"] == pytest.approx(15)
    assert utilization.columns()["ram_used_gb"] == pytest.approx(3)


def test_where_nothing_can_be_read_nothing_is_said(monkeypatch):
    def hidden():
        raise PermissionError

    monkeypatch.setattr(csv_writer, "_sample", hidden)
    assert Utilization().columns() == {}
