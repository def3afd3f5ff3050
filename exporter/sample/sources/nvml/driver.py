"""Calls into NVML, each timed, each failure an exception that says what it calls for."""

import functools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exporter.model.readings import CallCost
from exporter.sample.sources.nvml.codes import (
    FUNCTION_NOT_FOUND,
    MEANINGS,
    UNUSABLE,
    Reaction,
    reaction,
)

LIBRARY = "libnvidia-ml.so.1"
PAIR_MARK = 0xF8
PAIR = re.compile(rb"\xf8[\x80-\xbf]{4}|[\x20-\x7e]")
PAIRS = re.compile(rb"(?:%b)+(?:\xf8[\x80-\xbf]{0,3})?" % PAIR.pattern)
"""A full buffer cuts the last one off."""


class Failure(Exception):
    """A call that failed. `code` is its nvmlReturn_t."""

    def __init__(self, call: str, code: int, meaning: str = "") -> None:
        meaning = meaning or f"{MEANINGS.get(code, 'error')} (NVML error {code})"
        super().__init__(f"{call}: {meaning}")
        self.code = code
        self.reaction: Reaction = reaction(code)

    def of(self, what: str) -> "Failure":
        """The same, with what it is a failure of."""
        return Failure(what, self.code, str(self))


@contextmanager
def usable(call: str) -> Iterator[None]:
    """Turn whatever a card's answers raise into that card's Failure, so that it is its alone."""
    try:
        yield
    except Failure:
        raise
    except Exception as error:
        code = getattr(error, "value", None)  # that of NVMLError
        if isinstance(code, int):
            raise Failure(call, code) from None
        raise Failure(call, UNUSABLE, f"unusable answer: {error!r}") from error


def readable(raw: str | bytes) -> str:
    """A string of the driver, in whatever encoding it comes."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _from_pairs(raw) or raw.decode(errors="backslashreplace")


def _from_pairs(raw: bytes) -> str:
    """A string of the WSL library, which takes pairs of UTF-16 units for characters; "": it isn't.

    It encodes each pair as UTF-8 once did values of 26 bits: 0xF8 and 4 bytes of 6 bits each
    (pynvml #53, NVIDIA/cuda-python #2118, #2128).
    """
    if not PAIRS.fullmatch(raw):
        return ""
    values = (
        functools.reduce(lambda value, byte: value << 6 | byte & 0x3F, pair[1:], 0)
        if pair[0] == PAIR_MARK
        else pair[0]
        for pair in PAIR.findall(raw)
    )
    units = b"".join(value.to_bytes(4, "little") for value in values)
    return units.decode("utf-16-le", errors="replace").replace("\0", "")


class Driver:
    """One thread's way to NVML. `nvml` is the binding, imported by whoever opens the source."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._costs: dict[str, CallCost] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Call one function of the binding. Strings are returned as bytes. Raises Failure only.

        The binding decodes strings as UTF-8 in a wrapper around each function, and fails on those
        that are something else, so the function under the wrapper is called.
        """
        began = time.perf_counter()
        try:
            function = getattr(self.nvml, name, None)
            if function is None:  # a binding that is older than the function
                raise Failure(name, FUNCTION_NOT_FOUND)
            with usable(name):
                return getattr(function, "__wrapped__", function)(*arguments)
        finally:
            before = self._costs.get(name, CallCost(0, 0.0))
            took = time.perf_counter() - began
            self._costs[name] = CallCost(before.calls + 1, before.seconds + took)

    def costs(self) -> Mapping[str, CallCost]:
        """What each function has cost so far."""
        return dict(self._costs)


def total_costs(drivers: Iterable[Driver]) -> dict[str, CallCost]:
    """The costs of several threads together."""
    total: dict[str, CallCost] = {}
    for driver in drivers:
        for name, cost in driver.costs().items():
            before = total.get(name, CallCost(0, 0.0))
            total[name] = CallCost(before.calls + cost.calls, before.seconds + cost.seconds)
    return total
