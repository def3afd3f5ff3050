"""A command as a child process: signals are passed on, orphans are reaped, its end is awaited."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): what the command leaves behind becomes a child of this process, not of init."""
LOOK_SECONDS = 1.0
FROM_KEYBOARD = frozenset({signal.SIGINT, signal.SIGQUIT})
FORWARDED = FROM_KEYBOARD | {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
WATCHED = FORWARDED | {signal.SIGCHLD}
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


def run(
    command: list[str],
    environment: Mapping[str, str],
    meanwhile: Callable[[], None] | None = None,
) -> int:
    """Run a command to its end; its exit code, or minus the number of the signal that ended it.

    `meanwhile` is called about once a second. Orphans of the command that outlive it are let go.
    Raises OSError if it cannot be started.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored, exit codes are lost
    # blocked signals wait in the kernel until they are asked for, so none is missed or interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        child = os.posix_spawnp(
            command[0], command, environment, setsigmask=before, setsigdef=IGNORED_BY_PYTHON
        )
        return _wait(child, meanwhile)
    finally:
        while signal.sigtimedwait(FORWARDED, 0):  # these were meant for the command
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(child: int, meanwhile: Callable[[], None] | None) -> int:
    due = time.monotonic() + LOOK_SECONDS
    while True:
        received = signal.sigtimedwait(WATCHED, max(0.0, due - time.monotonic()))
        if received is None or received.si_signo == signal.SIGCHLD:
            code = _reap(child)  # each time: the kernel may give SIGCHLD to another thread
            if code is not None:
                return code
            if received is None:
                if meanwhile:
                    meanwhile()
                due = time.monotonic() + LOOK_SECONDS
        elif not _has_it_already(received):
            os.kill(child, received.si_signo)


def _has_it_already(received: signal.struct_siginfo) -> bool:
    """Whether the kernel sent it for a key that was pressed: then the child has got it as well."""
    return received.si_signo in FROM_KEYBOARD and received.si_code > 0


def _reap(child: int) -> int | None:
    """Take leave of every child that has ended; the exit code of `child` if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
