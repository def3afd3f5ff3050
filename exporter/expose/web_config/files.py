"""Reading the web config file and the files it refers to, and detecting changes."""

import os
import stat
from typing import TypeAlias

from exporter.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
FileStamp: TypeAlias = tuple[int, ...] | None


def file_stamp(path: str) -> FileStamp:
    """Return a stamp that differs if the file was changed; None if it does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class TrackedFiles:
    """Files that were read, with their stamps from before reading."""

    def __init__(self) -> None:
        self._stamps: dict[str, FileStamp] = {}
        self.notes: list[str] = []
        """Warnings about the files."""

    def read(self, path: str, what: str, *, secret: bool = False) -> str:
        """Return the text of a file; `what` names it in errors. Raises ConfigError."""
        self._stamps[path] = file_stamp(path)
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
                raise ConfigError(f"{what} {path}: is {kind}; specify a regular file")
            with open(path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(
                f"{what} {path}: cannot be read: {error.strerror}; check that it exists and that "
                "the exporter's user may read it"
            ) from None
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{what} {path}: is larger than {MAX_FILE_BYTES} bytes")
        if secret and status.st_mode & stat.S_IROTH:
            self.notes.append(f"{what} {path}: is world-readable; run chmod o-r {path}")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{what} {path}: is not text; expected PEM or YAML") from None

    def have_changed(self) -> bool:
        """Whether one of the files has changed since it was read."""
        return any(file_stamp(path) != before for path, before in self._stamps.items())
