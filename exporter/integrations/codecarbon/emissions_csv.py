"""emissions.csv: rows are added under a lock, in the order of the file's own columns.

A file with other columns is moved aside first, under the name that CodeCarbon would give it. Where
somebody holds the file for too long, the row goes into a file of its own beside it.
"""

import contextlib
import csv
import errno
import fcntl
import io
import itertools
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence

from exporter import human
from exporter.report.forms.codecarbon import COLUMNS, Row, text

WAIT_SECONDS = 5.0
POLL_SECONDS = 0.01
HEADER_BYTES = 1 << 16
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Of file systems that know no locks: a row is still written in one piece."""
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def put(path: str, row: Row, *, replacing: bool, wait_seconds: float = WAIT_SECONDS) -> str:
    """Add a row, with `replacing` in the place of that of its run; the path where it is now.

    Directories are made. Raises OSError; the file is then as it was.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        _put(path, row, replacing, wait_seconds)
    except BlockingIOError:
        stem, suffix = os.path.splitext(path)
        path = f"{stem}_{re.sub(r'[^A-Za-z0-9._-]', '_', str(row['run_id']))[:100]}{suffix}"
        _put(path, row, replacing, wait_seconds)
    return path


def _put(path: str, row: Row, replacing: bool, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        with _held(path, deadline) as fd:
            header = _header(fd)
            if header is not None and sorted(header) != sorted(COLUMNS):
                _move_aside(path)
                continue
            line = text([[row[name] for name in header or COLUMNS]])
            if header is None:
                _append(fd, text([COLUMNS]) + line)
            elif not (replacing and _replace(path, fd, header, str(row["run_id"]), line)):
                _append(fd, _line_end(fd) + line)
            return


@contextlib.contextmanager
def _held(path: str, deadline: float) -> Iterator[int]:
    """The file, locked; one that was replaced meanwhile is opened anew. Raises BlockingIOError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            _lock(fd, deadline)
            if _is_there(path, fd):
                yield fd
                return
        finally:
            os.close(fd)


def _lock(fd: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return
        else:
            return
        time.sleep(POLL_SECONDS)


def _is_there(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _header(fd: int) -> list[str] | None:
    """The names in the first line; None where there is nothing."""
    begin = os.pread(fd, HEADER_BYTES, 0)
    if not begin.strip():
        os.ftruncate(fd, 0)
        return None
    try:
        names = next(csv.reader(io.StringIO(_decoded(begin), newline="")))
    except csv.Error:
        return []
    return [names[0].removeprefix(BOM), *names[1:]]


def _line_end(fd: int) -> str:
    """What is missing after the last line, whose writer was stopped."""
    return "" if os.pread(fd, 1, os.fstat(fd).st_size - 1) == b"\n" else "\n"


def _append(fd: int, lines: str) -> None:
    """All of it or nothing."""
    size = os.fstat(fd).st_size
    data = lines.encode("utf-8", "surrogateescape")
    try:
        written = os.write(fd, data)
    except OSError:
        os.ftruncate(fd, size)
        raise
    if written < len(data):
        os.ftruncate(fd, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _replace(path: str, fd: int, header: Sequence[str], run_id: str, line: str) -> bool:
    """Have the file without the run's rows and with this one; False where it has none of them."""
    found = os.fstat(fd)
    whole = _decoded(os.pread(fd, found.st_size, 0)) + _line_end(fd)
    column = header.index("run_id")
    try:
        rows = list(_rows(whole))
    except csv.Error:
        return False
    own = [human.cell(run_id)]
    of_others = [lines for lines, cells in rows if cells[column : column + 1] != own]
    if len(of_others) == len(rows):
        return False
    kept = "".join(of_others)
    replace_whole(path, kept + line, found.st_mode)
    return True


def replace_whole(path: str, content: str, mode: int | None = None) -> None:
    """Have a file with this content, and with the rights of `mode`. Raises OSError."""
    beside = f"{path}.{os.getpid()}.part"
    try:
        with open(beside, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _rows(whole: str) -> Iterator[tuple[str, list[str]]]:
    """Each row as it stands there, which may be several lines, and its cells."""
    lines = list(io.StringIO(whole, newline=""))
    reader = csv.reader(iter(lines))
    begin = 0
    for cells in reader:
        yield "".join(lines[begin : reader.line_num]), cells
        begin = reader.line_num


def _move_aside(path: str) -> None:
    """Rename the file, overwriting nothing: emissions.csv.bak, emissions.csv_0.bak, and so on."""
    for aside in itertools.chain([f"{path}.bak"], (f"{path}_{n}.bak" for n in itertools.count())):
        if os.path.lexists(aside):
            continue
        try:
            os.link(path, aside)
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            os.rename(path, aside)
        else:
            os.unlink(path)
        return


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
