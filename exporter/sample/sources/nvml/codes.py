"""What each error of NVML means for what is to be done about it."""

from enum import Enum, auto
from types import MappingProxyType


class Reaction(Enum):
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

REACTIONS = MappingProxyType(
    {
        **dict.fromkeys((NOT_SUPPORTED, NO_PERMISSION, 13, 25, 26), Reaction.CAPABILITY),
        **dict.fromkeys((SUCCESS, 6), Reaction.EMPTY),
        **dict.fromkeys((INSUFFICIENT_SIZE, 10, 19, NO_DATA, 27), Reaction.TRANSIENT),
        **dict.fromkeys((11, 15, 16, 28), Reaction.DEVICE),
        **dict.fromkeys((1, 9, 29), Reaction.LIBRARY),
        18: Reaction.PROCESS,
        12: Reaction.NODE,
        **dict.fromkeys((17, 999), Reaction.ENVIRONMENT),
    }
)
"""By the codes of nvmlReturn_t; all others pass by themselves, or stay to be read in the log."""

MEANINGS = MappingProxyType(
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


def reaction(code: int) -> Reaction:
    """What an error calls for; a code that is not known passes by itself."""
    return REACTIONS.get(code, Reaction.TRANSIENT)
