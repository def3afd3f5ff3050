"""Timed calls of NVML functions, and classification of their errors."""

import functools
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from exporter.model.readings import DriverCallStats
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError
from exporter.units import NANOSECONDS_PER_SECOND

SUCCESS = 0
NOT_SUPPORTED = 3
FUNCTION_NOT_FOUND = 13
NO_DRIVER = (9, 12)
"""The kernel module of the driver is not loaded; the library is not installed."""
UNUSABLE = -1
"""Not a code of NVML: the call returned an unusable answer."""
NO_PERMISSION = 4
NO_DATA = 21
INSUFFICIENT_SIZE = 7

ERROR_CLASSES = MappingProxyType(
    {
        **dict.fromkeys((NOT_SUPPORTED, 13, 25, 26), ErrorClass.CAPABILITY),
        NO_PERMISSION: ErrorClass.DENIED,
        **dict.fromkeys((SUCCESS, 6), ErrorClass.EMPTY),
        **dict.fromkeys((INSUFFICIENT_SIZE, 10, 19, NO_DATA, 27), ErrorClass.TRANSIENT),
        **dict.fromkeys((11, 15, 16, 28), ErrorClass.DEVICE),
        **dict.fromkeys((1, 9, 29), ErrorClass.LIBRARY),
        18: ErrorClass.PROCESS,
        12: ErrorClass.NODE,
        **dict.fromkeys((17, 999), ErrorClass.ENVIRONMENT),
    }
)
"""Error classes by nvmlReturn_t code; all other codes are treated as transient."""

ERROR_TEXTS = MappingProxyType(
    {
        1: "NVML is not initialized",
        NOT_SUPPORTED: "not supported",
        NO_PERMISSION: "not permitted",
        6: "not found",
        INSUFFICIENT_SIZE: "the list grew while it was read",
        9: "the NVIDIA driver is not loaded",
        10: "timeout",
        11: "interrupt problem of the GPU",
        12: "libnvidia-ml.so.1 not found: install the driver, or mount it into the container",
        FUNCTION_NOT_FOUND: "the driver does not have this function",
        15: "the GPU has fallen off the bus or is lost",
        16: "the GPU needs a reset",
        17: "the operating system denies access to the device",
        18: "the driver was replaced while this process was running",
        28: "no such GPU",
        999: "unknown error",
    }
)


def classify_error(code: int) -> ErrorClass:
    """Return the class of an error; unknown codes are transient."""
    return ERROR_CLASSES.get(code, ErrorClass.TRANSIENT)


LIBRARY = "libnvidia-ml.so.1"
PAIR_MARK = 0xF8
PAIR = re.compile(rb"\xf8[\x80-\xbf]{4}|[\x20-\x7e]")
PAIRS = re.compile(rb"(?:%b)+(?:\xf8[\x80-\xbf]{0,3})?" % PAIR.pattern)
"""The last pair may be cut off by a full buffer."""


class NvmlError(GpuError):
    """A failed NVML call; `code` is its nvmlReturn_t."""

    def __init__(self, call: str, code: int, meaning: str = "") -> None:
        meaning = meaning or f"{ERROR_TEXTS.get(code, 'error')} (NVML error {code})"
        error_class = classify_error(code)
        super().__init__(f"{call}: {meaning}", error_class, is_driver_missing=code in NO_DRIVER)
        self.code = code

    def of(self, what: str) -> "NvmlError":
        """Return the same error with a prefix that names the object."""
        return NvmlError(what, self.code, str(self))


@contextmanager
def nvml_errors(call: str) -> Iterator[None]:
    """Convert any exception into NvmlError, so that it affects only the GPU that caused it."""
    try:
        yield
    except NvmlError:
        raise
    except Exception as error:
        code = getattr(error, "value", None)  # attribute of pynvml.NVMLError
        if isinstance(code, int):
            raise NvmlError(call, code) from None
        raise NvmlError(call, UNUSABLE, f"unusable answer: {error!r}") from error


def decode_text(raw: str | bytes) -> str:
    """Decode a string of the driver, whose encoding may vary."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _from_pairs(raw) or raw.decode(errors="backslashreplace")


def _from_pairs(raw: bytes) -> str:
    """Decode a string of the WSL library; return "" for any other string.

    The library treats pairs of UTF-16 units as one character, encoded in the original UTF-8 form
    for values of 26 bits: 0xF8 and 4 bytes of 6 bits each (pynvml #53, NVIDIA/cuda-python #2118,
    #2128).
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


class NvmlCalls:
    """NVML functions for one thread, with call statistics. `nvml` is the binding, pynvml."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self._costs: dict[str, DriverCallStats] = {}

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the binding. Strings are returned as bytes. Raises only NvmlError.

        The binding decodes strings as UTF-8 in a wrapper around each function, and fails on other
        encodings, so the wrapped function is called.
        """
        began = time.perf_counter()
        try:
            function = getattr(self.nvml, name, None)
            if function is None:  # the binding is older than the function
                raise NvmlError(name, FUNCTION_NOT_FOUND)
            with nvml_errors(name):
                return getattr(function, "__wrapped__", function)(*arguments)
        finally:
            before = self._costs.get(name, DriverCallStats(0, 0.0))
            elapsed = time.perf_counter() - began
            self._costs[name] = DriverCallStats(before.calls + 1, before.seconds + elapsed)

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return the number and duration of calls so far, by function."""
        return dict(self._costs)


MAX_REFUSALS = 3
"""Consecutive refusals after which a capability is considered absent.

A GPU that is queried too fast, or is being reset, refuses too.
"""
IGNORED_ERRORS = (ErrorClass.EMPTY, ErrorClass.TRANSIENT, ErrorClass.ENVIRONMENT)
"""Classes of errors of an optional call that do not affect other calls."""
RETRY_NS = 3600 * NANOSECONDS_PER_SECOND
"""Time after which an absent capability is tried again."""


class Capabilities:
    """Tracks which functions and fields a GPU supports, by counting refusals."""

    def __init__(self) -> None:
        self._refusals: dict[object, int] = {}
        self._since_ns: dict[object, int] = {}

    def has(self, what: object, now_ns: int) -> bool:
        """Whether `what` is supported, or is to be tried again."""
        if self._refusals.get(what, 0) < MAX_REFUSALS:
            return True
        if now_ns - self._since_ns[what] < RETRY_NS:
            return False
        self.works(what)
        return True

    def refused(self, what: object, now_ns: int) -> None:
        """Count a refusal of `what`."""
        self._since_ns[what] = now_ns
        self._refusals[what] = self._refusals.get(what, 0) + 1

    def works(self, what: object) -> None:
        """Reset the refusals of `what` after a success."""
        self._refusals.pop(what, None)

    def forget(self) -> None:
        """Reset all refusals, after the driver or the GPU was reinitialized."""
        self._refusals.clear()

    @contextmanager
    def optional(self, what: object, now_ns: int) -> Iterator[bool]:
        """Context of an optional call: yields whether to try it, and ignores harmless failures.

        Missing capabilities and unusable answers are ignored. Raises NvmlError for failures of the
        GPU, the driver or the process.
        """
        is_supported = self.has(what, now_ns)
        try:
            with nvml_errors(str(what)):
                yield is_supported
        except NvmlError as failure:
            if failure.is_refusal:
                self.refused(what, now_ns)
            elif failure.error_class not in IGNORED_ERRORS:
                raise
        else:
            if is_supported:
                self.works(what)
