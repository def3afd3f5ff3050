"""Calls into NVML, each timed, each failure an exception that says what it calls for."""

import functools
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from types import MappingProxyType
from typing import Any

from exporter.model.readings import DriverCallStats
from exporter.units import NANOSECONDS_PER_SECOND


class ErrorClass(Enum):
    """What an error calls for."""

    CAPABILITY = auto()
    """The call does not work here: do without."""
    EMPTY = auto()
    """There is nothing to tell, which is no failure."""
    TRANSIENT = auto()
    """Try again at the next turn."""
    DEVICE = auto()
    """This card is gone or needs a reset; the others are well."""
    LIBRARY = auto()
    """Shut NVML down and begin anew."""
    PROCESS = auto()
    """No call of this process will ever work again."""
    NODE = auto()
    """There is no driver now."""
    ENVIRONMENT = auto()
    """The device files were taken away, as happens to containers; on all cards it lasts."""


SUCCESS = 0
NOT_SUPPORTED = 3
FUNCTION_NOT_FOUND = 13
NO_DRIVER = (9, 12)
"""The kernel's half of the driver is not loaded; the library is not installed."""
UNUSABLE = -1
"""No code of NVML: the call returned, and its answer could not be used."""
NO_PERMISSION = 4
NO_DATA = 21
INSUFFICIENT_SIZE = 7

ERROR_CLASSES = MappingProxyType(
    {
        **dict.fromkeys((NOT_SUPPORTED, NO_PERMISSION, 13, 25, 26), ErrorClass.CAPABILITY),
        **dict.fromkeys((SUCCESS, 6), ErrorClass.EMPTY),
        **dict.fromkeys((INSUFFICIENT_SIZE, 10, 19, NO_DATA, 27), ErrorClass.TRANSIENT),
        **dict.fromkeys((11, 15, 16, 28), ErrorClass.DEVICE),
        **dict.fromkeys((1, 9, 29), ErrorClass.LIBRARY),
        18: ErrorClass.PROCESS,
        12: ErrorClass.NODE,
        **dict.fromkeys((17, 999), ErrorClass.ENVIRONMENT),
    }
)
"""By the codes of nvmlReturn_t; all others pass by themselves, or stay to be read in the log."""

ERROR_TEXTS = MappingProxyType(
    {
        1: "NVML is not initialised",
        NOT_SUPPORTED: "not supported",
        NO_PERMISSION: "not permitted",
        6: "not found",
        INSUFFICIENT_SIZE: "the list grew while it was read",
        9: "the NVIDIA driver is not loaded",
        10: "timeout",
        11: "interrupt problem of the card",
        12: "libnvidia-ml.so.1 is not there: install the driver, or hand it into the container",
        FUNCTION_NOT_FOUND: "the driver does not know this function",
        15: "the GPU has fallen off the bus or is lost",
        16: "the GPU needs a reset",
        17: "the operating system refuses access to the device",
        18: "the driver was replaced while this process runs",
        28: "no such GPU",
        999: "unknown error",
    }
)


def classify_error(code: int) -> ErrorClass:
    """What an error calls for; a code that is not known passes by itself."""
    return ERROR_CLASSES.get(code, ErrorClass.TRANSIENT)


LIBRARY = "libnvidia-ml.so.1"
PAIR_MARK = 0xF8
PAIR = re.compile(rb"\xf8[\x80-\xbf]{4}|[\x20-\x7e]")
PAIRS = re.compile(rb"(?:%b)+(?:\xf8[\x80-\xbf]{0,3})?" % PAIR.pattern)
"""A full buffer cuts the last one off."""


class NvmlError(Exception):
    """A call that failed. `code` is its nvmlReturn_t."""

    def __init__(self, call: str, code: int, meaning: str = "") -> None:
        meaning = meaning or f"{ERROR_TEXTS.get(code, 'error')} (NVML error {code})"
        super().__init__(f"{call}: {meaning}")
        self.code = code
        self.error_class: ErrorClass = classify_error(code)

    def of(self, what: str) -> "NvmlError":
        """The same, with what it is a failure of."""
        return NvmlError(what, self.code, str(self))


@contextmanager
def nvml_errors(call: str) -> Iterator[None]:
    """Turn whatever a card's answers raise into that card's Failure, so that it is its alone."""
    try:
        yield
    except NvmlError:
        raise
    except Exception as error:
        code = getattr(error, "value", None)  # that of NVMLError
        if isinstance(code, int):
            raise NvmlError(call, code) from None
        raise NvmlError(call, UNUSABLE, f"unusable answer: {error!r}") from error


def decode_text(raw: str | bytes) -> str:
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


class NvmlDriver:
    """One thread's way to NVML. `nvml` is the binding, imported by whoever opens the source."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._costs: dict[str, DriverCallStats] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Call one function of the binding. Strings are returned as bytes. Raises Failure only.

        The binding decodes strings as UTF-8 in a wrapper around each function, and fails on those
        that are something else, so the function under the wrapper is called.
        """
        began = time.perf_counter()
        try:
            function = getattr(self.nvml, name, None)
            if function is None:  # a binding that is older than the function
                raise NvmlError(name, FUNCTION_NOT_FOUND)
            with nvml_errors(name):
                return getattr(function, "__wrapped__", function)(*arguments)
        finally:
            before = self._costs.get(name, DriverCallStats(0, 0.0))
            took = time.perf_counter() - began
            self._costs[name] = DriverCallStats(before.calls + 1, before.seconds + took)

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """What each function has cost so far."""
        return dict(self._costs)


def total_call_stats(drivers: Iterable[NvmlDriver]) -> dict[str, DriverCallStats]:
    """The costs of several threads together."""
    total: dict[str, DriverCallStats] = {}
    for driver in drivers:
        for name, cost in driver.call_stats().items():
            before = total.get(name, DriverCallStats(0, 0.0))
            total[name] = DriverCallStats(before.calls + cost.calls, before.seconds + cost.seconds)
    return total


MAX_REFUSALS = 3
"""In a row before it is believed: a card that is asked too fast or is reset refuses too."""
IGNORED_ERRORS = (ErrorClass.EMPTY, ErrorClass.TRANSIENT, ErrorClass.ENVIRONMENT)
"""Errors of one call that leave the others as they are."""
RETRY_NS = 3600 * NANOSECONDS_PER_SECOND
"""A driver may learn; it is asked again after this long."""


class Capabilities:
    """Counts refusals by what was asked for."""

    def __init__(self) -> None:
        self._refusals: dict[object, int] = {}
        self._since_ns: dict[object, int] = {}

    def has(self, what: object, now_ns: int) -> bool:
        """Whether it is worth asking."""
        if self._refusals.get(what, 0) < MAX_REFUSALS:
            return True
        if now_ns - self._since_ns[what] < RETRY_NS:
            return False
        self.works(what)
        return True

    def refused(self, what: object, now_ns: int) -> None:
        """It was refused once more."""
        self._since_ns[what] = now_ns
        self._refusals[what] = self._refusals.get(what, 0) + 1

    def works(self, what: object) -> None:
        """It was answered."""
        self._refusals.pop(what, None)

    def forget(self) -> None:
        """The driver or the card was begun anew, and may do more."""
        self._refusals.clear()

    @contextmanager
    def optional(self, what: object, now_ns: int) -> Iterator[bool]:
        """Whether to try; what the card cannot do, or answers with nothing usable, is no failure.

        Raises Failure where the card, the driver or the process is at fault.
        """
        is_worth = self.has(what, now_ns)
        try:
            with nvml_errors(str(what)):
                yield is_worth
        except NvmlError as failure:
            if failure.error_class is ErrorClass.CAPABILITY:
                self.refused(what, now_ns)
            elif failure.error_class not in IGNORED_ERRORS:
                raise
        else:
            if is_worth:
                self.works(what)
