"""A command as a child process, with real processes and signals."""

import os
import signal
import subprocess
import sys

import pytest

HOST = """
import os, sys
from exporter.cli import run
sys.exit(run.run_child(sys.argv[1:], dict(os.environ)) % 256)
"""
TELLING_HOST = """
import os, sys
from exporter.cli import run
os.kill = lambda pid, number: print("passed on", flush=True)
run.run_child(sys.argv[1:], dict(os.environ))
"""
LATE_HOST = """
import os, signal
from exporter.cli import run
spawn = os.posix_spawnp
def interrupted(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    return spawn(*args, **kwargs)
os.posix_spawnp = interrupted
print(run.run_child(["sleep", "60"], dict(os.environ)))
"""
THREADED_HOST = """
import os, sys, threading
from exporter.cli import run
threading.Thread(target=threading.Event().wait, daemon=True).start()
spawn = os.posix_spawnp
def ended(*args, **kwargs):
    pid = spawn(*args, **kwargs)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
os.posix_spawnp = ended
sys.exit(run.run_child(sys.argv[1:], dict(os.environ)) % 256)
"""
ORPHAN = "pid=$( (sh -c 'exit 3' >/dev/null & echo $!) )"
"""A grandchild whose parent is gone at once."""
ITS_END = "while [ -e /proc/$pid ]; do sleep 0.01; done"
"""A zombie that nobody reaps stays in /proc."""
PLAIN = ("env", "--default-signal")
"""No signal is ignored, whatever the tests were started under, such as `nohup`."""


def begin(*command, **options):
    """`run_child` in a process of its own, whose exit code is the answer modulo 256."""
    host = [*PLAIN, sys.executable, "-c", HOST, *command]
    return subprocess.Popen(host, stdout=subprocess.PIPE, text=True, **options)


def sh(script, **options):
    return begin("sh", "-c", script, **options)


def finish(process):
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_the_end_is_noticed_though_another_thread_receives_the_signal():
    host = [*PLAIN, sys.executable, "-c", THREADED_HOST, "sh", "-c", "exit 7"]
    assert subprocess.run(host, check=False, timeout=60).returncode == 7


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_is_the_commands(code):
    assert finish(sh(f"exit {code}"))[0] == code


def test_a_signal_that_ends_the_command_is_negative():
    assert finish(sh("kill -KILL $$"))[0] == -signal.SIGKILL % 256


def test_what_cannot_be_started_is_an_error_of_its_own():
    from exporter.cli import run

    handler = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with pytest.raises(FileNotFoundError):
            run.run_child(["/nothing/there"], {})
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    finally:
        signal.signal(signal.SIGCHLD, handler)


def test_orphans_are_reaped_while_the_command_runs():
    assert finish(sh(f"{ORPHAN}; {ITS_END}; echo gone")) == (0, "gone\n")


def test_the_exit_code_of_an_orphan_is_not_taken_for_the_commands():
    assert finish(sh(f"{ORPHAN}; {ITS_END}; exit 5"))[0] == 5


def test_the_end_of_the_command_is_the_end_whatever_it_leaves_behind():
    process = sh("sleep 60 >/dev/null & echo $!")
    code, output = finish(process)
    os.kill(int(output), signal.SIGKILL)  # it is still there
    assert code == 0


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"])
def test_signals_are_passed_on(name):
    number = getattr(signal, f"SIG{name}")
    process = sh(f"trap 'echo caught; exit 4' {name}; echo ready; while :; do sleep 0.01; done")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert finish(process) == (4, "caught\n")


def test_a_signal_that_came_before_the_command_began_is_passed_on():
    late = subprocess.run(
        [sys.executable, "-c", LATE_HOST], check=True, capture_output=True, text=True, timeout=60
    )
    assert late.stdout == f"{-signal.SIGTERM}\n"


def test_the_command_begins_with_the_signals_of_its_caller():
    script = "grep -E '^Sig(Blk|Ign)' /proc/self/status"
    plain = subprocess.run([*PLAIN, "sh", "-c", script], capture_output=True, text=True, check=True)
    assert signals(finish(sh(script))[1]) == signals(plain.stdout)


def signals(text):
    """The masks of a process, without the two that glibc keeps for itself."""
    return [int(line.split()[1], 16) & 0x7FFF_FFFF for line in text.splitlines()]


def test_the_command_keeps_the_files_that_it_was_given():
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe:
        process = sh(f"echo kept >/proc/self/fd/{writing}", pass_fds=(writing,))
        os.close(writing)
        assert finish(process)[0] == 0
        assert pipe.read() == "kept\n"


def test_what_the_terminal_has_sent_to_the_command_is_not_sent_again(on_terminal):
    script = "trap 'echo caught; exit 0' INT; echo ready; while :; do sleep 0.01; done"
    terminal = on_terminal(TELLING_HOST, "sh", "-c", script)
    terminal.read("ready")
    terminal.press(b"\x03")
    seen = terminal.read()
    assert "caught" in seen
    assert "passed on" not in seen
