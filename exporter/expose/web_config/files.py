"""Reading the web config file and what it names, and noticing that one of them has changed."""

import os
import stat
from typing import TypeAlias

from exporter.errors import ConfigError

MAX_FILE_BYTES = 1 << 20
FileStamp: TypeAlias = tuple[int, ...] | None


def file_stamp(path: str) -> FileStamp:
    """What is another when the file is; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class TrackedFiles:
    """Files that were read, and how they were when that began."""

    def __init__(self) -> None:
        self._stamps: dict[str, FileStamp] = {}
        self.notes: list[str] = []
        """What a person should know about them."""

    def read(self, path: str, what: str, *, secret: bool = False) -> str:
        """The text of a file; `what` says what it is to be. Raises ConfigError."""
        self._stamps[path] = file_stamp(path)
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode):
                kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
                raise ConfigError(f"{what} {path}: is {kind}; give the path of a regular file")
            with open(path, "rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(
                f"{what} {path}: cannot be read: {error.strerror}; check that it exists and that "
                "the exporter's user may read it"
            ) from None
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{what} {path}: has more than {MAX_FILE_BYTES} bytes")
        if secret and found.st_mode & stat.S_IROTH:
            self.notes.append(f"{what} {path}: can be read by everybody: chmod o-r {path}")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{what} {path}: is not text; expected PEM or YAML") from None

    def have_changed(self) -> bool:
        """Whether one of them is not as it was."""
        return any(file_stamp(path) != before for path, before in self._stamps.items())
