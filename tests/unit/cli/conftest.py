"""Programs on a terminal of their own."""

import os
import pty
import subprocess
import sys
from contextlib import suppress

import pytest

TAKE = "import os; os.close(os.open(os.ttyname(0), os.O_RDWR))\n"
"""What makes the terminal, on which a session's first process is, the one of the session."""


class Terminal:
    """A Python program, and the keyboard and screen before which it runs."""

    def __init__(self, source, *arguments):
        try:
            self.screen, inside = pty.openpty()
        except OSError as error:
            pytest.skip(f"no terminal can be made here: {error}; mount devpts on /dev/pts")
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE + source, *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)

    def press(self, key):
        """Press a key."""
        os.write(self.screen, key)

    def read(self, until=None):
        """What is shown until a text comes, or until the program and all it began have ended."""
        seen = b""
        with suppress(OSError):  # nobody writes any more
            while until is None or until not in seen.decode(errors="ignore"):
                seen += os.read(self.screen, 1)
        return seen.decode()

    def close(self):
        """End the program; its exit code."""
        self.process.wait(60)
        os.close(self.screen)
        return self.process.returncode


@pytest.fixture
def on_terminal():
    """Starts a program on a terminal, and ends it afterwards."""
    terminals = []

    def start(source, *arguments):
        terminals.append(Terminal(source, *arguments))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.process.kill()
        terminal.close()
