"""What one card cannot do, remembered, so that it is not asked each second."""

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.sample.sources.nvml.codes import Reaction
from exporter.sample.sources.nvml.driver import Failure, usable
from exporter.units import NANOSECONDS_PER_SECOND

REFUSALS = 3
"""In a row before it is believed: a card that is asked too fast or is reset refuses too."""
WITHOUT_ONE_ANSWER = (Reaction.EMPTY, Reaction.TRANSIENT, Reaction.ENVIRONMENT)
"""Errors of one call that leave the others as they are."""
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
            with usable(str(what)):
                yield is_worth
        except Failure as failure:
            if failure.reaction is Reaction.CAPABILITY:
                self.refused(what, now_ns)
            elif failure.reaction not in WITHOUT_ONE_ANSWER:
                raise
        else:
            if is_worth:
                self.works(what)
