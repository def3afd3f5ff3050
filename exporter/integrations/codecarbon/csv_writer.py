"""Writer of emissions.csv: rows are added under a lock, in the order of the file's columns.

A file with other columns is renamed first, as CodeCarbon does. If the lock is held for too long,
the row is written to a separate file next to it.
"""

import contextlib
import csv
import errno
import fcntl
import io
import itertools
import os
import platform
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporter import formatting
from exporter.client.atomic_file import replace_file
from exporter.client.log import warn
from exporter.report.forms.codecarbon import COLUMNS, MachineFacts, Row, csv_row, csv_text

BYTES_PER_GIB = 1 << 30
PERCENT = 100.0


def machine_facts(procfs: str = "/proc") -> MachineFacts:
    """Return facts about this machine."""
    return MachineFacts(
        os=platform.platform(),
        python_version=platform.python_version(),
        cpu_count=os.cpu_count() or "",
        cpu_model=_cpu_model(procfs),
        ram_total_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / BYTES_PER_GIB,
    )


def _cpu_model(procfs: str) -> str:
    """Return the processor model; "" if the kernel does not report it, as on most ARM machines."""
    try:
        with open(os.path.join(procfs, "cpuinfo"), encoding="utf-8", errors="replace") as lines:
            names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
            return next(names, "").strip()
    except OSError:
        return ""


class Utilization:
    """Mean utilization of the machine's processors and memory since the object was created."""

    def __init__(self) -> None:
        self._cpu_times: Any = None
        self._samples, self._percents, self._bytes = 0, 0.0, 0
        self.columns()

    def columns(self) -> Row:
        """Return CodeCarbon's columns; empty if /proc cannot be read.

        The processors' utilization is exact over the whole time, by the kernel's counters. Memory
        is averaged over what was in use at the beginning and at each call.
        """
        try:
            cpu_times, memory = _sample()
        except OSError:  # /proc is hidden
            return {}
        self._cpu_times = self._cpu_times or cpu_times
        self._samples += 1
        self._percents += memory.percent
        self._bytes += memory.used
        return {
            "cpu_utilization_percent": busy_percent(self._cpu_times, cpu_times),
            "ram_utilization_percent": self._percents / self._samples,
            "ram_used_gb": self._bytes / self._samples / BYTES_PER_GIB,
        }


def _sample() -> tuple[Any, Any]:
    import psutil  # 20 ms that only a tracker need spend

    return psutil.cpu_times(), psutil.virtual_memory()


def busy_percent(before: Any, after: Any) -> float | str:
    """Return the busy share between two `psutil.cpu_times`; "" if no time passed.

    Guest time is already part of `user`; iowait counts as idle, as in `psutil.cpu_percent`.
    """
    spent = {name: max(0.0, getattr(after, name) - getattr(before, name)) for name in after._fields}
    total = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    idle = spent["idle"] + spent.get("iowait", 0.0)
    return PERCENT * (total - idle) / total if total > 0 else ""


LOCK_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.01
HEADER_BYTES = 1 << 16
LOCKING_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without locks, on which a row is still written atomically."""
BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def write_csv_row(
    path: str, row: Row, *, replacing: bool, wait_seconds: float = LOCK_TIMEOUT_SECONDS
) -> str:
    """Add a row, or with `replacing` replace the run's row; return the path of its file.

    Directories are created. Raises OSError and leaves the file unchanged.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    try:
        _write_locked(path, row, replacing, wait_seconds)
    except BlockingIOError:
        stem, suffix = os.path.splitext(path)
        path = f"{stem}_{re.sub(r'[^A-Za-z0-9._-]', '_', str(row['run_id']))[:100]}{suffix}"
        _write_locked(path, row, replacing, wait_seconds)
    return path


def _write_locked(path: str, row: Row, replacing: bool, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        with _locked_file(path, deadline) as fd:
            header = _header(fd)
            if header is not None and sorted(header) != sorted(COLUMNS):
                _move_aside(path)
                continue
            line = csv_text([[row[name] for name in header or COLUMNS]])
            if header is None:
                _append(fd, csv_text([COLUMNS]) + line)
            elif not (replacing and _replace(path, fd, header, str(row["run_id"]), line)):
                _append(fd, _line_end(fd) + line)
            return


@contextlib.contextmanager
def _locked_file(path: str, deadline: float) -> Iterator[int]:
    """Open and lock the file; reopen it if it was replaced meanwhile. Raises BlockingIOError."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            _lock(fd, deadline)
            if _is_same_file(path, fd):
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
            if error.errno not in LOCKING_UNSUPPORTED:
                raise
            return
        else:
            return
        time.sleep(POLL_SECONDS)


def _is_same_file(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _header(fd: int) -> list[str] | None:
    """Return the column names in the first line; None if the file is empty."""
    begin = os.pread(fd, HEADER_BYTES, 0)
    if not begin.strip():
        os.ftruncate(fd, 0)
        return None
    try:
        return next(csv.reader(io.StringIO(_decoded(begin).removeprefix(BOM), newline="")), [])
    except csv.Error:
        return []


def _line_end(fd: int) -> str:
    """Return the line break if it is missing after the last line, whose writer was interrupted."""
    return "" if os.pread(fd, 1, os.fstat(fd).st_size - 1) == b"\n" else "\n"


def _append(fd: int, lines: str) -> None:
    """Append lines completely or not at all."""
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
    """Replace the run's rows with this row; return False if there are none."""
    found = os.fstat(fd)
    whole = _decoded(os.pread(fd, found.st_size, 0)) + _line_end(fd)
    column = header.index("run_id")
    try:
        rows = list(_rows(whole))
    except csv.Error:
        return False
    own = [formatting.csv_cell(run_id)]
    of_others = [lines for lines, cells in rows if cells[column : column + 1] != own]
    if len(of_others) == len(rows):
        return False
    kept = "".join(of_others)
    replace_file(path, kept + line, stat.S_IMODE(found.st_mode), sync=True)
    return True


def _rows(whole: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the text of each row, which may span several lines, and its cells."""
    lines = list(io.StringIO(whole, newline=""))
    reader = csv.reader(iter(lines))
    begin = 0
    for cells in reader:
        yield "".join(lines[begin : reader.line_num]), cells
        begin = reader.line_num


def _move_aside(path: str) -> None:
    """Rename the file to an unused name: emissions.csv.bak, emissions.csv_0.bak, and so on."""
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


def write_record(path: str, record: Mapping[str, Any], *, is_alone: bool) -> None:
    """Write the record to the file; a row that is kept up to date, or one row at the end.

    With several nodes (`is_alone` is false), each node adds a row at the end, because a node must
    not replace another node's row. Raises OSError.
    """
    if is_alone or record["ended"] is not None:
        write_row_with_warning(path, csv_row(record, machine_facts()), replacing=is_alone)


def write_row_with_warning(path: str, row: Row, *, replacing: bool) -> None:
    """Call `write_csv_row`, and warn if the row was written to another file. Raises OSError."""
    written = write_csv_row(path, row, replacing=replacing)
    if written != path:
        warn("%s is locked; the row of run %s was written to %s", path, row["run_id"], written)
