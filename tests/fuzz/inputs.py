"""Doubles that deliver the bytes of an input to a parser: files, HTTP answers, clocks."""

import atexit
import contextlib
import functools
import http.client
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from exporter.errors import FetchError
from tests.fuzz.mutation import SEPARATOR

NOW = 1_700_000_000.0
"""Unix time of all targets."""


class StillClock:
    """A clock that stands still."""

    def boottime_ns(self) -> int:
        return 10**12

    def monotonic_ns(self) -> int:
        return 10**12

    def wall(self) -> float:
        return NOW


@functools.cache
def directory() -> Path:
    """Return a directory of this process, in memory if the machine has such a file system."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def file_with(data: bytes, name: str = "input") -> str:
    """Return the path of a file with these bytes."""
    path = directory() / name
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return str(path)


def parts_of(data: bytes, most: int) -> list[bytes]:
    """Return the parts of an input, which SEPARATOR divides."""
    return data.split(SEPARATOR, most - 1)


def files_with(data: bytes, names: Sequence[str], root: str) -> str:
    """Write the parts of an input to files of these names; return their directory."""
    parts = parts_of(data, len(names))
    for number, name in enumerate(names):
        file_with(parts[number] if number < len(parts) else b"", f"{root}/{name}")
    return str(directory() / root)


@contextlib.contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    """Replace a global name of a module."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


class HttpDouble:
    """HTTP client of an intensity source whose answers are the parts of an input, in turn."""

    def __init__(self, data: bytes) -> None:
        self._answers = iter(data.split(SEPARATOR))
        self._last = b""

    def get(self, _url: str, _query: Mapping[str, str] | None = None, **_: Any) -> Any:
        """Return the next document; a text that is not JSON fails as with the real client."""
        self._last = next(self._answers, self._last)
        try:
            return json.loads(self._last)
        except (ValueError, RecursionError):
            raise FetchError("bad_answer", "the response is not JSON") from None

    def redact(self, secret: str) -> str:
        return secret


class _ReadSocket:
    """A connection from which http.client reads the bytes of an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> BytesIO:
        return BytesIO(self._data)

    def sendall(self, _: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class AnsweredConnection(http.client.HTTPConnection):
    """A connection to a server that has sent an input."""

    def __init__(self, data: bytes) -> None:
        super().__init__("localhost")
        self._data = data

    def connect(self) -> None:
        self.sock = _ReadSocket(self._data)


class ReplaySocket:
    """A connection on which the other side has sent all bytes of an input."""

    def __init__(self, data: bytes, piece: int = 1 << 16) -> None:
        self._data = data
        self._piece = piece

    def settimeout(self, _: float) -> None:
        pass

    def sendall(self, _: bytes) -> None:
        pass

    def recv(self, most: int) -> bytes:
        taken, self._data = self._data[: min(most, self._piece)], self._data[self._piece :]
        return taken
