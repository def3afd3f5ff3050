"""The process of one target: notes each input before it runs, and each different crash once."""

import contextlib
import json
import mmap
import sys
import time
from pathlib import Path

from tests.fuzz.attempt import Crash, Target, attempt, limit_memory
from tests.fuzz.mutation import MAX_BYTES

LENGTH_BYTES = 8
SUMMARY, CURRENT = "summary.json", "current"
"""Files in the directory of a target: the result, and the input that is running."""


class Worker:
    """Runs inputs until the time is over."""

    def __init__(self, target: Target, seconds: float, directory: Path) -> None:
        self._target = target
        self._directory = directory
        self._until = time.monotonic() + seconds
        self._crashes: dict[tuple[str, str], Crash] = {}
        self._executions = 0
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / CURRENT).open("w+b") as file:
            file.truncate(LENGTH_BYTES + 2 * MAX_BYTES)
            self._current = mmap.mmap(file.fileno(), 0)
        limit_memory()

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._until

    def run(self, data: bytes) -> None:
        """Run one input."""
        noted = data[: 2 * MAX_BYTES]
        self._current[:LENGTH_BYTES] = len(noted).to_bytes(LENGTH_BYTES)
        self._current[LENGTH_BYTES : LENGTH_BYTES + len(noted)] = noted
        self._executions += 1
        crash = attempt(self._target, data)
        if crash is not None:
            key = crash.place, crash.error.partition(":")[0]
            known = self._crashes.get(key)
            if known is None or len(crash.data) < len(known.data):
                self._crashes[key] = crash

    def finish(self) -> None:
        """Write the crashes and the summary."""
        for crash in self._crashes.values():
            (self._directory / crash.file_name).write_bytes(crash.data)
        found = [{**crash._asdict(), "data": crash.file_name} for crash in self._crashes.values()]
        summary = {"executions": self._executions, "crashes": found}
        (self._directory / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
        (self._directory / CURRENT).unlink()


def input_of_dead_worker(directory: Path) -> bytes:
    """Return the input that was running when a worker was killed."""
    with contextlib.suppress(OSError):
        data = (directory / CURRENT).read_bytes()
        return data[LENGTH_BYTES : LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES])]
    return b""


def arguments() -> tuple[str, float, Path]:
    """Return the arguments of a worker's module: target, seconds, directory."""
    name, seconds, directory = sys.argv[1:]
    return name, float(seconds), Path(directory)
