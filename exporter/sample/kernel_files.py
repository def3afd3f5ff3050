"""Reading of small files in procfs and sysfs."""

import os


class ReusedFile:
    """A file that stays open between reads.

    It is opened at the first read, and reopened after a failed read or if the file was replaced.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def read(self, length: int) -> bytes:
        """Return the first `length` bytes of the current content. Raises OSError."""
        try:
            if self._fd >= 0 and os.fstat(self._fd).st_nlink == 0:
                self.close()
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._fd, length, 0)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; a later read reopens it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_text(directory: str, name: str) -> str:
    """Return the content of a file without surrounding whitespace; "" if it cannot be read."""
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""


MAX_DIGITS = 20
"""Of a 64-bit number."""


def parse_number(text: str) -> int | None:
    """Return an unsigned decimal number of at most 64 bits; None for any other text."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if is_number else None
