"""Opening the ledger's file: the lock, the schema's version, damage, and errors in plain words."""

import contextlib
import fcntl
import logging
import math
import os
import pwd
import re
import sqlite3
import stat
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporter.errors import LedgerError, LedgerLocked

ESCAPE_PREFIX = "\N{REPLACEMENT CHARACTER}"
"""Begins a text that is stored with backslashes, since UTF-8 has no lone surrogates."""


class LedgerConnection(sqlite3.Connection):
    """Texts come back as they were; what is not a number comes back as 0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text_factory = from_sqlite

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        """As that of sqlite3; `values` are a sequence, or a mapping for names in the text."""
        if isinstance(values, Mapping):
            return super().execute(sql, {name: to_sqlite(value) for name, value in values.items()})
        return super().execute(sql, [to_sqlite(value) for value in values])

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """As that of sqlite3; the rows are sequences."""
        return super().executemany(sql, [[to_sqlite(value) for value in row] for row in rows])


def to_sqlite(value: object) -> object:
    """What SQLite keeps for a value; it takes no lone surrogates, and makes NULL of NaN."""
    if isinstance(value, float):
        return 0.0 if math.isnan(value) else value
    if not isinstance(value, str) or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        is_odd = True
    else:
        is_odd = value.startswith(ESCAPE_PREFIX)
    return ESCAPE_PREFIX + value.encode("unicode_escape").decode("ascii") if is_odd else value


def from_sqlite(data: bytes) -> str:
    """The text again; where the file is damaged, as much of it as can be read."""
    text = data.decode("utf-8", "replace")
    if not text.startswith(ESCAPE_PREFIX):
        return text
    return text[1:].encode("ascii", "replace").decode("unicode_escape", "replace")


log = logging.getLogger(__name__)

LEDGER_FILE = "ledger.sqlite"
MIGRATIONS = os.path.join(os.path.dirname(__file__), "migrations")
OTHER_DIRECTORY_HINT = "or point account.state_directory (--path.state) elsewhere"

MIN_SQLITE_VERSION = (3, 26)
"""That of RHEL 8; the schema and every statement keep to what it knows."""
LAST_STRICT_VERSION = 3
"""Tables up to this version of the schema were STRICT, which SQLite before 3.37 cannot read."""
NEWER_SQLITE = (
    f"SQLite {sqlite3.sqlite_version}, which this Python uses, is too old for it: run the exporter "
    "with a Python whose sqlite3.sqlite_version is newer, at least "
    f"{'.'.join(map(str, MIN_SQLITE_VERSION))}; the file is left as it is"
)

TYPE_CHECKS = re.compile(
    r"CHECK \(typeof\(\w+\) (?:= 'integer'|IN \('integer', 'null'\))\)|\bSTRICT,?"
)
"""What in a declaration only checks values."""
TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"

FILES = ("lock", LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm", "journal")
"""What an exporter has in its state directory."""
FOREIGN = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
"""Beginnings of the names of errors that a file of another user causes."""

DAMAGED = (
    "restart the exporter, which sets a damaged file aside at its start; if this comes again, "
    "stop it and move the file away"
)
REMEDIES = {
    "SQLITE_FULL": "free space on its disk; an exporter that runs keeps totals in memory meanwhile",
    "SQLITE_READONLY": f"make it writable for the exporter's user, {OTHER_DIRECTORY_HINT}",
    "SQLITE_CANTOPEN": "make it and its directory writable for the exporter's user, "
    f"{OTHER_DIRECTORY_HINT}",
    "SQLITE_BUSY": "end the program that has it open; only the exporter may write to it",
    "SQLITE_IOERR": "look for errors of its disk in the kernel log (dmesg)",
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
    "SQLITE_ERROR": "its tables are not those of this exporter: move the file away, "
    f"{OTHER_DIRECTORY_HINT}",
}


@contextlib.contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Errors of SQLite, and values that it cannot take, as LedgerError with the remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path}: {error}{_remedy(error, path)}") from error
    except (OverflowError, UnicodeError) as error:
        raise LedgerError(f"ledger {path}: a value cannot be stored: {error}") from error


def _remedy(error: sqlite3.Error, path: str) -> str:
    name = getattr(error, "sqlite_errorname", "")
    foreign = foreign_file(os.path.dirname(path)) if name.startswith(FOREIGN) else ""
    if foreign:
        return f"; {foreign}"
    if name == "SQLITE_ERROR" and "syntax error" in str(error):
        return f"; {NEWER_SQLITE}"  # a statement of ours; the file has no part in it
    remedies = [text for start, text in REMEDIES.items() if name.startswith(start)]
    return f"; {remedies[0]}" if remedies else ""


def foreign_file(directory: str) -> str:
    """What to do about a file of another user in a state directory; "" where all can be written."""
    me = os.geteuid()
    for path in (directory, *(os.path.join(directory, name) for name in FILES)):
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue
        if owner != me and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            return (
                f"{path} belongs to {_user(owner)}, and this process runs as {_user(me)}: run "
                f"it as {_user(owner)}, or as root run `chown -R {_user(me)}: {directory}`, "
                f"{OTHER_DIRECTORY_HINT}"
            )
    return ""


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_corruption(error: Exception) -> bool:
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
    except OSError as error:
        raise LedgerError(
            f"state directory {directory} cannot be created: {error.strerror}; as root, run "
            f"`install -d -m 0700 -o {_user(os.geteuid())} {directory}`, {OTHER_DIRECTORY_HINT}"
        ) from error
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        is_denied = isinstance(error, PermissionError)
        remedy = (is_denied and foreign_file(directory)) or (
            f"make it writable for the exporter's user, {OTHER_DIRECTORY_HINT}"
        )
        raise LedgerError(f"state directory {directory}: {error.strerror}; {remedy}") from error
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


def connect(path: str) -> LedgerConnection:
    """The write connection, its schema up to date.

    Raises LedgerError for a file of a newer exporter and where SQLite is too old, sqlite3.Error for
    all else.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        raise LedgerError(f"ledger {path} cannot be opened: {NEWER_SQLITE}")
    _restrict_permissions(path)
    scripts = _scripts()
    connection = _open(path)
    try:
        version = _version(connection, path, len(scripts))
        if 0 < version < len(scripts):
            _copy(connection, copy_of(path, version))
        if 0 < version <= LAST_STRICT_VERSION:
            _drop_strict(connection, path, scripts[:version])
            connection.close()  # it may go on with the declarations that it has read
            connection = _open(path)
        _migrate(connection, scripts, version)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def copy_of(path: str, version: int) -> str:
    """Where the ledger is copied before its schema of this version is migrated."""
    return f"{path}.schema-{version}"


def _copy(connection: sqlite3.Connection, target: str) -> None:
    """Copy the ledger, for an older exporter to return to.

    A failure is logged and does not keep the daemon from starting.
    """
    made = f"{target}.new"
    try:
        _remove(made)
        _restrict_permissions(made)
        with contextlib.closing(sqlite3.connect(made)) as copy:
            connection.backup(copy)
        os.replace(made, target)
    except (sqlite3.Error, OSError) as error:
        _remove(made)
        log.warning(
            "ledger is migrated without a copy, an older exporter cannot be returned to",
            extra={"copy": target, "error": str(error)},
        )
    else:
        log.info("ledger copied before its migration", extra={"copy": target})


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(path + suffix)


def connect_read_only(path: str) -> LedgerConnection:
    """A connection that never writes into the ledger, which may be in use by a daemon.

    A ledger of an older schema is copied into memory and migrated there.

    Raises LedgerError for a file of a newer exporter, sqlite3.Error for all else.
    """
    scripts = _scripts()
    source = _open_read_only(path)
    try:
        version = _version(source, path, len(scripts))
        if version == len(scripts):
            return source
        with contextlib.closing(source):
            return _migrated_copy(source, path, scripts, version)
    except BaseException:
        source.close()
        raise


def quarantine(path: str, wall: float) -> str:
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


def _restrict_permissions(path: str) -> None:
    """Let the owner alone read who ran what; the directory may be one that others may enter."""
    # SQLite gives what it makes beside the file the rights of the file. It is not opened where it
    # is there already: closing it again would end the locks that this process holds on it.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.chmod(path + suffix, os.stat(path + suffix).st_mode & stat.S_IRWXU)


def _open(path: str) -> LedgerConnection:
    return LedgerConnection(path, isolation_level=None, check_same_thread=False)


def uri_of(path: str) -> str:
    """The address under which SQLite opens a file read-only."""
    return f"file:{urllib.parse.quote(path)}?mode=ro"


def _open_read_only(path: str) -> LedgerConnection:
    """SQLite shares its locks by files beside the ledger, which need a writable directory.

    Where the directory is read-only and nothing is left in the write-ahead log, nobody can write,
    so that the ledger can be read without locks.
    """
    connection = LedgerConnection(uri_of(path), uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        name = getattr(error, "sqlite_errorname", "")
        has_log = os.path.exists(f"{path}-wal") and os.path.getsize(f"{path}-wal") > 0
        if not name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) or has_log:
            raise
        return LedgerConnection(f"{uri_of(path)}&immutable=1", uri=True, isolation_level=None)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrated_copy(
    source: sqlite3.Connection, path: str, scripts: Sequence[str], version: int
) -> LedgerConnection:
    """A copy in memory, its schema up to date; in memory since the file is left as it is."""
    copy = _in_memory(source)
    try:
        if 0 < version <= LAST_STRICT_VERSION:
            _drop_strict(copy, path, scripts[:version])
            declared = _in_memory(copy)  # `copy` may continue with the declarations it has read
            copy.close()
            copy = declared
        _migrate(copy, scripts, version)
    except BaseException:
        copy.close()
        raise
    return copy


def _in_memory(source: sqlite3.Connection) -> LedgerConnection:
    """A copy of a database in memory."""
    copy = LedgerConnection(":memory:", isolation_level=None)
    try:
        source.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _scripts() -> list[str]:
    """What makes each version of the schema of the one before it, the first of an empty file."""
    scripts = []
    for name in sorted(name for name in os.listdir(MIGRATIONS) if name.endswith(".sql")):
        with open(os.path.join(MIGRATIONS, name), encoding="utf-8") as file:
            scripts.append(file.read())
    return scripts


def _version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """The version of the file's schema; 0 of an empty file. Raises LedgerError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        copy = copy_of(path, newest)
        restore = f", or restore {copy}" if os.path.exists(copy) else ""
        raise LedgerError(
            f"ledger {path} has schema version {version}, and this exporter knows up to "
            f"{newest}; upgrade the exporter{restore}, {OTHER_DIRECTORY_HINT}; the file is left "
            "as it is"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, scripts: Sequence[str], version: int) -> None:
    for number, script in enumerate(scripts[version:], version + 1):
        with rollback_on_error(connection):
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )


def _drop_strict(connection: sqlite3.Connection, path: str, scripts: Iterable[str]) -> None:
    """Give STRICT tables the declarations that every SQLite can read; the rows stay as they are.

    The connection has to be closed then: it may still have the declarations of before.

    STRICT changes nothing in the format of a table, so its declaration can be replaced in place, by
    the procedure for such changes of https://sqlite.org/lang_altertable.html#otheralter. With
    `writable_schema` an SQLite that does not know STRICT reads past it and can do the same:
    https://sqlite.org/stricttables.html#backwards_compatibility.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(";".join(scripts))
        declared = dict(fresh.execute(TABLES))
    connection.execute("PRAGMA writable_schema = ON")
    with rollback_on_error(connection):
        connection.execute("BEGIN IMMEDIATE")
        found = dict(connection.execute(TABLES).fetchall())
        for name, declaration in declared.items():
            if _normalized_declaration(found.get(name, "")) != _normalized_declaration(declaration):
                raise LedgerError(
                    f"ledger {path}: its table {name} is not that of this exporter: "
                    f"move the file away, {OTHER_DIRECTORY_HINT}"
                )
        connection.executemany(
            "UPDATE sqlite_master SET sql = ? WHERE type = 'table' AND name = ?",
            [(declaration, name) for name, declaration in declared.items()],
        )
        (count,) = connection.execute("PRAGMA schema_version").fetchone()
        connection.execute(f"PRAGMA schema_version = {count + 1}")
        connection.execute("COMMIT")


def _normalized_declaration(declaration: str) -> str:
    """What decides how the rows of a table lie in the file, and which columns they have."""
    return re.sub(r"\s|\"", "", TYPE_CHECKS.sub("", declaration)).replace("ANY", "BLOB")


@contextlib.contextmanager
def rollback_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Leave no transaction open where an error ends it."""
    try:
        yield
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
