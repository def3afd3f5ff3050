"""What one card cannot do, remembered, so that it is not asked each second."""

from exporter.units import NANOSECONDS_PER_SECOND

REFUSALS = 3
"""In a row before it is believed: a card that is asked too fast or is reset refuses too."""
FORGET_NS = 3600 * NANOSECONDS_PER_SECOND
"""A driver may learn; it is asked again after this long."""


class Capabilities:
    """Counts refusals by what was asked for."""

    def __init__(self) -> None:
        self._refusals: dict[object, int] = {}
        self._since_ns: dict[object, int] = {}

    def has(self, what: object, now_ns: int) -> bool:
        """Whether it is worth asking."""
        if self._refusals.get(what, 0) < REFUSALS:
            return True
        if now_ns - self._since_ns[what] < FORGET_NS:
            return False
        self.works(what)
        return True

    def refused(self, what: object, now_ns: int) -> None:
        """It was refused once more."""
        self._refusals[what] = self._refusals.get(what, 0) + 1
        self._since_ns[what] = now_ns

    def works(self, what: object) -> None:
        """It was answered."""
        self._refusals.pop(what, None)
