"""What a running daemon tells systemd, and that a hung loop falls silent."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.real.parts import get

pytestmark = pytest.mark.real
TIMEOUT_SECONDS = 4.0
"""WATCHDOG_USEC of the fixture."""


def is_silent(systemd) -> bool:
    """Whether the beats end within ten timeouts."""
    try:
        for _ in range(40):
            systemd.next("WATCHDOG", TIMEOUT_SECONDS)
    except TimeoutError:
        return True
    return False


def test_ready_is_said_once_the_page_answers(daemon, systemd):
    with (daemon.directory / "log").open("ab") as log:
        daemon.process = subprocess.Popen(daemon.command, stderr=log)
    assert systemd.next("READY") == "1"
    assert b"emissions_" in get(daemon.url + "/metrics")


def test_the_status_names_the_page(daemon, systemd):
    daemon.start()
    assert f"http://127.0.0.1:{daemon.port}/" in systemd.next("STATUS")


def test_a_beat_comes_at_least_twice_per_timeout(daemon, systemd):
    daemon.start()
    systemd.next("READY")
    for _ in range(4):
        systemd.next("WATCHDOG", TIMEOUT_SECONDS / 2)


def test_beats_come_between_ticks_that_are_far_apart(daemon, systemd):
    daemon.flags = (*daemon.flags, "--sample.interval=60")
    daemon.start()
    systemd.next("READY")
    for _ in range(4):
        systemd.next("WATCHDOG", TIMEOUT_SECONDS / 2)


def test_a_loop_that_hangs_is_silent_though_the_page_still_answers(
    daemon, systemd, procfs, tmp_path
):
    daemon.start()
    process = tmp_path / "4242"
    process.mkdir()
    os.mkfifo(process / "stat")  # opening it waits for somebody who writes
    process.rename(procfs / "4242")
    assert is_silent(systemd)
    assert get(daemon.url + "/metrics")
    (procfs / "4242").rename(process)
    (process / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
    assert systemd.next("WATCHDOG") == "1"


def test_sighup_is_said_with_its_time_and_ends_with_ready(daemon, systemd):
    daemon.start()
    systemd.next("READY")
    before_us = time.monotonic_ns() // 1000
    daemon.process.send_signal(signal.SIGHUP)
    assert int(systemd.next("MONOTONIC_USEC")) >= before_us
    assert systemd.next("READY") == "1"


def test_broken_settings_end_a_reload_with_ready_too(daemon, systemd, tmp_path):
    settings = tmp_path / "config.yaml"
    settings.write_text("convert: {zone: DE}\n")
    daemon.flags = (*daemon.flags, f"--config.file={settings}")
    daemon.start()
    systemd.next("READY")
    settings.write_text("convert: {zone: Atlantis}\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert systemd.next("READY") == "1"


def test_stopping_is_said_at_sigterm(daemon, systemd):
    daemon.start()
    systemd.forget()
    assert daemon.stop() == 0
    assert systemd.next("STOPPING") == "1"
