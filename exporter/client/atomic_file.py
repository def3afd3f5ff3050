"""Atomic replacement of files."""

import os
import threading
from contextlib import suppress


def replace_file(path: str, text: str, mode: int | None = None, *, sync: bool = False) -> None:
    """Replace a file by one with this text and, if given, these permissions. Raises OSError.

    Readers see the old or the new file. With `sync`, it is on the disk before it replaces the old
    one. Other users may be able to create files in the directory: a link that one of them has put
    in the place of the temporary file is not followed.
    """
    temporary = f"{path}.{os.getpid()}-{threading.get_native_id()}.part"
    with suppress(FileNotFoundError):
        os.unlink(temporary)  # of a process that was killed
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if mode is not None:
                os.fchmod(fd, mode)
            file.write(text)
            if sync:
                file.flush()
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
