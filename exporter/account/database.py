"""Opens the ledger's SQLite file: lock, schema migrations, damaged files, errors with a remedy."""

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
"""Prefix of a text that is stored with backslash escapes, since UTF-8 has no lone surrogates."""


class LedgerConnection(sqlite3.Connection):
    """SQLite connection that stores any Python text unchanged and stores NaN as 0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text_factory = from_sqlite

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        """Execute a statement; `values` is a sequence, or a mapping for named parameters."""
        if isinstance(values, Mapping):
            return super().execute(sql, {name: to_sqlite(value) for name, value in values.items()})
        return super().execute(sql, [to_sqlite(value) for value in values])

    def executemany(self, sql: str, rows: Iterable[Any], /) -> sqlite3.Cursor:
        """Execute a statement for each row; rows are sequences."""
        return super().executemany(sql, [[to_sqlite(value) for value in row] for row in rows])


def to_sqlite(value: object) -> object:
    """Encode a value for SQLite, which rejects lone surrogates and stores NaN as NULL."""
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
    """Decode a stored text; bytes that a damaged file has instead are replaced."""
    text = data.decode("utf-8", "replace")
    if not text.startswith(ESCAPE_PREFIX):
        return text
    return text[1:].encode("ascii", "replace").decode("unicode_escape", "replace")


log = logging.getLogger(__name__)

LEDGER_FILE = "ledger.sqlite"
MIGRATIONS = os.path.join(os.path.dirname(__file__), "migrations")
OTHER_DIRECTORY_HINT = "or point account.state_directory (--path.state) elsewhere"

MIN_SQLITE_VERSION = (3, 26)
"""The version of RHEL 8; the schema and all statements use only its features."""
LAST_STRICT_VERSION = 3
"""Tables up to this version of the schema were STRICT, which SQLite before 3.37 cannot read."""
NEWER_SQLITE = (
    f"SQLite {sqlite3.sqlite_version}, which this Python uses, is too old for it: run the exporter "
    "with a Python that has a newer sqlite3.sqlite_version, at least "
    f"{'.'.join(map(str, MIN_SQLITE_VERSION))}; the file is not changed"
)

TYPE_CHECKS = re.compile(
    r"CHECK \(typeof\(\w+\) (?:= 'integer'|IN \('integer', 'null'\))\)|\bSTRICT,?"
)
"""Parts of a table declaration that only check values."""
TABLES = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"

FILES = ("lock", LEDGER_FILE, f"{LEDGER_FILE}-wal", f"{LEDGER_FILE}-shm", "journal")
"""Files of the exporter in its state directory."""
FOREIGN = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
"""Prefixes of the names of SQLite errors that a file of another user causes."""

DAMAGED = (
    "restart the exporter, which renames a damaged file when it starts; if the error returns, "
    "stop it and move the file away"
)
REMEDIES = {
    "SQLITE_FULL": "free space on its disk; a running exporter keeps totals in memory meanwhile",
    "SQLITE_READONLY": f"make it writable for the exporter's user, {OTHER_DIRECTORY_HINT}",
    "SQLITE_CANTOPEN": "make it and its directory writable for the exporter's user, "
    f"{OTHER_DIRECTORY_HINT}",
    "SQLITE_BUSY": "stop the program that has it open; only the exporter may write to it",
    "SQLITE_IOERR": "check the kernel log (dmesg) for errors of its disk",
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
    "SQLITE_ERROR": "its tables are not those of this exporter: move the file away, "
    f"{OTHER_DIRECTORY_HINT}",
}


@contextlib.contextmanager
def sqlite_errors(path: str) -> Iterator[None]:
    """Convert errors of SQLite and values that it cannot store to LedgerError with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        raise LedgerError(f"ledger {path}: {error}{_remedy(error, path)}") from error
    except (OverflowError, UnicodeError) as error:
        raise LedgerError(f"ledger {path}: a value cannot be stored: {error}") from error


@contextlib.contextmanager
def reading_errors(path: str) -> Iterator[None]:
    """Convert errors of SQLite and of values that no exporter writes to LedgerError."""
    with sqlite_errors(path):
        try:
            yield
        except (LookupError, TypeError, ValueError) as error:
            raise LedgerError(f"ledger {path} is damaged: {error}; {DAMAGED}") from error


def _remedy(error: sqlite3.Error, path: str) -> str:
    name = getattr(error, "sqlite_errorname", "")
    foreign = foreign_file(os.path.dirname(path)) if name.startswith(FOREIGN) else ""
    if foreign:
        return f"; {foreign}"
    if name == "SQLITE_ERROR" and "syntax error" in str(error):
        return f"; {NEWER_SQLITE}"  # our own statement failed, whatever the file contains
    remedies = [text for start, text in REMEDIES.items() if name.startswith(start)]
    return f"; {remedies[0]}" if remedies else ""


def foreign_file(directory: str) -> str:
    """Return what to do about another user's file in a state directory; "" if there is none.

    A file of another user that this process can read and write does not count.
    """
    me = os.geteuid()
    for path in (directory, *(os.path.join(directory, name) for name in FILES)):
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue
        if owner != me and not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
            return (
                f"{path} belongs to {_user(owner)}, and this process runs as {_user(me)}: run "
                f"it as {_user(owner)}, or as root run `chown -R {_owner(me)} {directory}`, "
                f"{OTHER_DIRECTORY_HINT}"
            )
    return ""


def _owner(uid: int) -> str:
    """Return the owner for `chown`, which accepts an empty group only with a name."""
    name = _user(uid)
    return f"{name}:" if name != str(uid) else f"{uid}:{os.getegid()}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def is_corruption(error: Exception) -> bool:
    """Return whether an error shows that the file is damaged or not a database.

    Besides SQLite's own error codes: undecodable text, and values that no exporter writes.
    """
    name = getattr(error, "sqlite_errorname", "")
    is_undecodable = isinstance(error, (UnicodeError, LookupError, TypeError, ValueError))
    return is_undecodable or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def lock(directory: str) -> int:
    """Create the directory and hold its lock until the returned descriptor is closed.

    Raises LedgerLocked if another daemon holds the lock, LedgerError if it cannot be created.
    """
    if not directory:
        raise LedgerError(
            "account.state_directory: this user has no home directory to store totals in; "
            "set a directory with --path.state, or set HOME"
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
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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
    # The pid is only informative, so a full disk must not prevent the daemon from starting.
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode("ascii"), 0)
    return fd


def connect(path: str) -> LedgerConnection:
    """Open the write connection and migrate the schema to the current version.

    Raises LedgerError for a file of a newer exporter and if SQLite is too old, sqlite3.Error for
    other failures.
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
            connection.close()  # it may have cached the old declarations
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
    """Return the path of the copy that is made before this schema version is migrated."""
    return f"{path}.schema-{version}"


def _copy(connection: sqlite3.Connection, target: str) -> None:
    """Copy the ledger, so that it is possible to return to an older exporter.

    A failure is logged and does not prevent the daemon from starting.
    """
    temporary = f"{target}.new"
    try:
        _remove(temporary)
        _restrict_permissions(temporary)
        with contextlib.closing(sqlite3.connect(temporary)) as copy:
            connection.backup(copy)
            # An older exporter that continued the counters of the copy would publish lower values.
            # SQLite before 3.37 cannot read the tables of old schemas, and then no exporter can.
            with contextlib.suppress(sqlite3.DatabaseError):
                copy.execute("UPDATE meta SET clean = 0")
                copy.commit()
        os.replace(temporary, target)
    except (sqlite3.Error, OSError) as error:
        _remove(temporary)
        log.warning(
            "ledger is migrated without a copy; returning to an older exporter is not possible",
            extra={"copy": target, "error": str(error)},
        )
    else:
        log.info("ledger copied before its migration", extra={"copy": target})


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            os.unlink(path + suffix)


def connect_read_only(path: str) -> LedgerConnection:
    """Open a connection that never writes to the ledger, which may be in use by a daemon.

    A ledger of an older schema is copied into memory and migrated there.

    Raises LedgerError for a file of a newer exporter, sqlite3.Error for other failures.
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
    """Rename a damaged ledger with its WAL files, overwriting nothing; return the new path."""
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
    """Restrict the file to its owner, since others may have access to the directory."""
    # SQLite creates its further files with the permissions of the database file. An existing file
    # is not opened here: closing it would release the locks that this process holds on it.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.chmod(path + suffix, os.stat(path + suffix).st_mode & stat.S_IRWXU)


def _open(path: str) -> LedgerConnection:
    return LedgerConnection(path, isolation_level=None, check_same_thread=False)


def uri_of(path: str) -> str:
    """Return the URI with which SQLite opens a file read-only."""
    return f"file:{urllib.parse.quote(path)}?mode=ro"


def _open_read_only(path: str) -> LedgerConnection:
    """Open the file read-only, without locks if the directory is read-only.

    SQLite's locks need files beside the ledger and so a writable directory. If the directory is
    read-only and the write-ahead log is empty, no process can write, and locks are not needed.
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
    """Return a copy in memory with the current schema; the file is not changed."""
    copy = _in_memory(source)
    try:
        if 0 < version <= LAST_STRICT_VERSION:
            _drop_strict(copy, path, scripts[:version])
            declared = _in_memory(copy)  # `copy` may have cached the old declarations
            copy.close()
            copy = declared
        _migrate(copy, scripts, version)
    except BaseException:
        copy.close()
        raise
    return copy


def _in_memory(source: sqlite3.Connection) -> LedgerConnection:
    """Return a copy of a database in memory."""
    copy = LedgerConnection(":memory:", isolation_level=None)
    try:
        source.backup(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _scripts() -> list[str]:
    """Return the SQL scripts that each migrate to the next schema version, from an empty file."""
    scripts = []
    for name in sorted(name for name in os.listdir(MIGRATIONS) if name.endswith(".sql")):
        with open(os.path.join(MIGRATIONS, name), encoding="utf-8") as file:
            scripts.append(file.read())
    return scripts


def _version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """Return the version of the file's schema; 0 for an empty file. Raises LedgerError."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > newest:
        copy = copy_of(path, newest)
        restore = f", or restore {copy}" if os.path.exists(copy) else ""
        raise LedgerError(
            f"ledger {path} has schema version {version}, and this exporter supports up to "
            f"{newest}; upgrade the exporter{restore}, {OTHER_DIRECTORY_HINT}; the file is not "
            "changed"
        )
    return int(version)


def _migrate(connection: sqlite3.Connection, scripts: Sequence[str], version: int) -> None:
    for number, script in enumerate(scripts[version:], version + 1):
        with rollback_on_error(connection):
            connection.executescript(
                f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;"
            )


def _drop_strict(connection: sqlite3.Connection, path: str, scripts: Iterable[str]) -> None:
    """Replace the declarations of STRICT tables by ones that every SQLite can read, in place.

    Close the connection afterwards: it may have cached the old declarations.

    STRICT does not change the format of a table, so only its declaration is replaced, by the
    procedure for such changes of https://sqlite.org/lang_altertable.html#otheralter. With
    `writable_schema` an SQLite without STRICT ignores the keyword and can do the same:
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
    """Return the part of a declaration that decides on the columns and the format of rows."""
    return re.sub(r"\s|\"", "", TYPE_CHECKS.sub("", declaration)).replace("ANY", "BLOB")


@contextlib.contextmanager
def rollback_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    """Roll back the open transaction when an error occurs."""
    try:
        yield
    except BaseException:
        # SQLite rolls back by itself after some errors, such as a full disk.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
