"""Standard streams that are closed, full, or of an old locale."""

import os
import subprocess
import sys

import pytest

ESTIMATE = ("estimate", "--hardware", "350 W", "--hours", "1")
UTF8 = {"PYTHONUTF8": "1"}
ASCII = {"PYTHONIOENCODING": "ascii"}


def called(redirected, *arguments, **variables):
    """A command of ours, as a shell starts it with its streams redirected."""
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", sys.executable, "-m", "exporter", *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_what_a_locale_cannot_show_is_shown_as_its_number():
    done = called("", *ESTIMATE, **ASCII)
    assert done.stdout.startswith(rb"1 \xd7 350 W for 1 h in WORLD")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_one_line():
    done = called(">/dev/full", *ESTIMATE, **UTF8)
    assert done.stderr == b"emissions-exporter: standard output: No space left on device\n"
    assert done.returncode == 1


def test_a_reader_that_has_had_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *ESTIMATE],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_is_run_though_a_stream_is_closed(closed, tmp_path):
    socket = f"--socket.path={tmp_path / 'agent.sock'}"
    look = "import os, sys; [os.fstat(i) for i in range(3)]; sys.exit(7)"
    assert called(closed, "run", socket, "--", sys.executable, "-c", look).returncode == 7


def test_what_is_said_on_a_closed_stream_goes_nowhere_else(tmp_path):
    socket = f"--socket.path={tmp_path / 'agent.sock'}"
    assert called("2>&-", "run", socket, "--", "true").stdout == b""
