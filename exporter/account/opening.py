"""Opening the ledger's file: the lock, the schema's version, damage, and errors in plain words."""

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator

from exporter.account.connection import Connection
from exporter.errors import LedgerError, LedgerLocked

NAME = "ledger.sqlite"
MIGRATIONS = os.path.join(os.path.dirname(__file__), "migrations")
ELSEWHERE = "or point account.state_directory (--path.state) elsewhere"

REMEDIES = {
    "SQLITE_FULL": "free space on its disk; until then totals are kept in memory",
    "SQLITE_READONLY": f"make it writable for the exporter's user, {ELSEWHERE}",
    "SQLITE_CANTOPEN": f"make it and its directory writable for the exporter's user, {ELSEWHERE}",
    "SQLITE_BUSY": "end the program that has it open; only the exporter may write to it",
    "SQLITE_IOERR": "look for errors of its disk in the kernel log (dmesg)",
    "SQLITE_CORRUPT": "stop the exporter, move the file away and start again",
    "SQLITE_NOTADB": "stop the exporter, move the file away and start again",
    "SQLITE_ERROR": f"its tables are not those of this exporter: move the file away, {ELSEWHERE}",
}


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Errors of SQLite, and values that it cannot take, as LedgerError with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        remedies = [text for start, text in REMEDIES.items() if name.startswith(start)]
        remedy = f"; {remedies[0]}" if remedies else ""
        raise LedgerError(f"ledger {path}: {error}{remedy}") from error
    except (OverflowError, UnicodeError) as error:
        raise LedgerError(f"ledger {path}: a value cannot be stored: {error}") from error


def is_damage(error: Exception) -> bool:
    """Whether the file itself is broken, or never was a database.

    Besides what SQLite says: text that is no text, and values that no exporter writes.
    """
    name = getattr(error, "sqlite_errorname", "")
    nonsense = isinstance(error, (UnicodeError, LookupError, TypeError, ValueError))
    return nonsense or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def lock(directory: str) -> int:
    """Make the directory and hold its lock until the returned descriptor is closed.

    Raises LedgerLocked where another daemon holds it, LedgerError where it cannot be made.
    """
    if not directory:
        raise LedgerError(
            "account.state_directory: this user has no home to keep totals in; "
            "name a directory with --path.state, or set HOME"
        )
    path = os.path.join(directory, "lock")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileExistsError, NotADirectoryError) as error:
        raise LedgerError(
            f"state directory {directory}: a file is in its place; move it away, {ELSEWHERE}"
        ) from error
    except OSError as error:
        raise LedgerError(
            f"state directory {directory}: {error.strerror}; "
            f"make it writable for the exporter's user, {ELSEWHERE}"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise LedgerError(
                f"state directory {directory} cannot be locked: {error.strerror}; "
                "point account.state_directory to a local disk"
            ) from error
        raise LedgerLocked(
            f"state directory {directory} is in use by the exporter with pid {holder or 'unknown'}"
            "; stop that one, or give this one another account.state_directory (--path.state)"
        ) from None
    # A disk without room must not keep the daemon from starting; the pid only helps people.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def connect(path: str) -> Connection:
    """The write connection, its schema up to date.

    Raises LedgerError for a file of a newer exporter, sqlite3.Error for all else.
    """
    _hide(path)
    connection = Connection(path, isolation_level=None, check_same_thread=False)
    try:
        _migrate(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: str, wall: float) -> str:
    """Rename a damaged file and what belongs to it, overwriting nothing; the new path."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(wall))
    aside = f"{path}.damaged-{stamp}"
    count = 1
    while os.path.exists(aside):
        count += 1
        aside = f"{path}.damaged-{stamp}-{count}"
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(path + suffix, aside + suffix)
    return aside


def _hide(path: str) -> None:
    """Let the owner alone read who ran what; the directory may be one that others may enter."""
    # SQLite gives what it makes beside the file the rights of the file. It is not opened where it
    # is there already: closing it again would end the locks that this process holds on it.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.chmod(path + suffix, os.stat(path + suffix).st_mode & stat.S_IRWXU)


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    files = sorted(name for name in os.listdir(MIGRATIONS) if name.endswith(".sql"))
    if version > len(files):
        raise LedgerError(
            f"ledger {path} has schema version {version}, and this exporter knows up to "
            f"{len(files)}; upgrade the exporter, {ELSEWHERE}; the file is left as it is"
        )
    for number, name in enumerate(files[version:], version + 1):
        with open(os.path.join(MIGRATIONS, name), encoding="utf-8") as file:
            script = file.read()
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
