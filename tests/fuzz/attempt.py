"""One input for one target, within limits of time and memory."""

import contextlib
import hashlib
import resource
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

Target = Callable[[bytes], object]
"""Parses its argument. Any exception that it raises is a defect."""

CPU_SECONDS = 3.0
"""CPU time that one input may take. A target parses it up to five times, and PyYAML takes half a
second until it refuses deep nesting."""
MEMORY_BYTES = 1 << 30
"""Memory that a process of a target may take in addition to that of its start."""
CORPUS = Path(__file__).parent / "corpus"
PACKAGE = "/exporter/"


class Crash(NamedTuple):
    """A defect that an input reveals."""

    place: str
    """File, line and function of the package where it was raised."""
    error: str
    """Type and message of the exception."""
    traceback: str
    data: bytes

    @property
    def file_name(self) -> str:
        """Return the name for a file with the input."""
        return f"crash-{hashlib.sha256(self.data).hexdigest()[:16]}"


class TookTooLongError(BaseException):
    """The input took more than `CPU_SECONDS`; no parser may catch it."""


def attempt(target: Target, data: bytes) -> Crash | None:
    """Run a target; return the crash, if any."""
    try:
        with _time_limit():
            target(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  also MemoryError, RecursionError and SystemExit
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if PACKAGE in frame.filename] or frames
        place = f"{own[-1].filename.rpartition(PACKAGE)[2]}:{own[-1].lineno} {own[-1].name}"
        text = f"{type(error).__name__}: {str(error)[:200]}"
        lines = traceback.format_exception(error)
        return Crash(place, text, "".join([*lines[:1], *lines[-25:]]), data)
    return None


def corpus_of(name: str) -> list[Path]:
    """Return the files of a target's corpus."""
    return sorted((CORPUS / name).iterdir())


def limit_memory() -> None:
    """Limit the address space of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raise TookTooLongError by CPU time, since the machine may be busy with something else."""

    def stop(*_: object) -> None:
        raise TookTooLongError(f"took more than {CPU_SECONDS:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
