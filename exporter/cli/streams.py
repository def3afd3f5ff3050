"""The program's standard streams, however it was started."""

import errno
import io
import os
import sys

NAMES = ("stdin", "stdout", "stderr")


def mend() -> None:
    """Give streams that are closed a place; write what the locale cannot show as its number.

    A socket or file that is opened while a stream is closed would get the stream's place, and
    the text that is meant for it.
    """
    for name in NAMES:
        if getattr(sys, name) is None:
            place = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the stream's own
            os.set_inheritable(place, True)  # commands that are run need one too
            mode = "r" if name == "stdin" else "w"
            stream = open(place, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  stays open
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def give_up(error: OSError) -> str:
    """Let the rest of what was printed go; why, empty where the reader has had enough.

    Raises the error again where it is not that of standard output.
    """
    is_full = error.errno == errno.ENOSPC and error.filename is None
    if not is_full and not isinstance(error, BrokenPipeError):
        raise error
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())  # else Python tries once more at its end
    os.close(nothing)
    return f"standard output: {error.strerror}" if is_full else ""
