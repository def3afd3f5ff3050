"""Notifications to systemd, received on a socket."""

import os
import socket

import pytest

from exporter.systemd import SystemdNotifier
from tests.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    """A notification socket, and its name in the environment."""
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@emissions-exporter-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(name.replace("@", "\0"))
        end.setblocking(False)
        yield end, name


def received(end):
    """Messages received since the last call."""
    lines = []
    while True:
        try:
            lines += end.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def test_ready_comes_with_a_status(systemd, clock):
    end, name = systemd
    SystemdNotifier({"NOTIFY_SOCKET": name}, clock).ready("serving")
    assert received(end) == ["READY=1", "STATUS=serving"]


def test_reloading_comes_with_the_time_that_systemd_compares(systemd, clock):
    end, name = systemd
    SystemdNotifier({"NOTIFY_SOCKET": name}, clock).reloading()
    assert received(end)[:2] == ["RELOADING=1", f"MONOTONIC_USEC={clock.now_ns // 1000}"]


def test_stopping_is_reported(systemd, clock):
    end, name = systemd
    SystemdNotifier({"NOTIFY_SOCKET": name}, clock).stopping()
    assert "STOPPING=1" in received(end)


def test_heartbeats_are_sent_four_times_per_timeout(systemd, clock):
    end, name = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "4000000"}, clock)
    for _ in range(80):  # eight seconds
        notifier.heartbeat()
        clock.advance(0.1)
    assert received(end) == ["WATCHDOG=1"] * 8
    assert notifier.heartbeat_interval_ns == 1_000_000_000


@pytest.mark.parametrize(
    "watchdog", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}]
)
def test_without_watchdog_no_heartbeat_is_sent(systemd, clock, watchdog):
    end, name = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name, **watchdog}, clock)
    notifier.heartbeat()
    assert received(end) == []
    assert notifier.heartbeat_interval_ns == 0


def test_the_watchdog_pid_must_be_this_process(systemd, clock):
    end, name = systemd
    ours = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    SystemdNotifier({"NOTIFY_SOCKET": name, **ours}, clock).heartbeat()
    assert received(end) == ["WATCHDOG=1"]


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1", "/nothing/there"])
def test_a_missing_socket_is_ignored(clock, name):
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"}, clock)
    notifier.ready("serving")
    notifier.heartbeat()
    notifier.stopping()


def test_a_full_socket_does_not_block(systemd, clock):
    end, name = systemd
    notifier = SystemdNotifier({"NOTIFY_SOCKET": name}, clock)
    for _ in range(10_000):
        notifier.stopping()
    assert received(end)
