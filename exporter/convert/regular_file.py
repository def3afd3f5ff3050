"""Reads configured files that must be regular files; errors name the file type and the remedy."""

import errno
import os
import stat

from exporter.errors import SourceError

KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
"""Names of the other file types."""


def read(path: str, most_bytes: int) -> bytes:
    """Read at most `most_bytes` from the start of a regular file; never block on a pipe.

    Raises SourceError with the reason and the remedy, to be appended to the name of the file.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise SourceError(_wrong_kind(mode))
            return file.read(most_bytes)
    except (OSError, ValueError) as error:
        raise SourceError(reason(path, error)) from None


def reason(path: str, error: OSError | ValueError) -> str:
    """Return why a file could not be read, and what to do."""
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    match number:
        case errno.EISDIR:
            return _wrong_kind(stat.S_IFDIR)
        case errno.ENXIO:
            return _wrong_kind(stat.S_IFSOCK)
        case errno.ENOENT | errno.ENOTDIR:
            place = "" if os.path.isabs(path) else f" in {os.getcwd()}"
            remedy = f"check that it exists{place}"
        case errno.EACCES | errno.EPERM:
            remedy = (
                f"check that the exporter's user (uid {os.geteuid()}) may read it and may enter "
                "the directories above it"
            )
        case _:
            remedy = "check the path"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot be read: {text}; {remedy}"


def _wrong_kind(mode: int) -> str:
    kind = next((name for is_kind, name in KINDS if is_kind(mode)), "not a file")
    return f"is {kind}, and a regular file is required; give the path of a file"


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
