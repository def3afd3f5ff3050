"""A small kernel file that is read again and again without being opened each time."""

import os


class ReusedFile:
    """Keeps `path` open between reads.

    Opened at the first read, and again after a failed one or where another file has replaced it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1

    def read(self, length: int) -> bytes:
        """The first `length` bytes as they are now. Raises OSError."""
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
        """Let go of the file; a later read opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_text(directory: str, name: str) -> str:
    """What a file holds, without white space around it; "" where it cannot be read."""
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read().strip()
    except (OSError, ValueError):
        return ""
