"""Whether two places show one and the same counter, found out by reading both in turn."""

LOOKS = 10
"""So many readings that moved must agree; a counter that stands still proves nothing."""
DIFFERENCES = 3
"""So many readings in a row must differ: copies of a counter are written one after the other."""
FAR_UJ = 100_000_000
"""A difference beyond what any package uses between the writing of two copies: 0.1 s at 1 kW."""


class MirrorTrial:
    """Compares a counter with a `first` one, which starts again at `wrap_uj` if that is known."""

    def __init__(self, wrap_uj: int | None) -> None:
        self._wrap_uj = wrap_uj or 1 << 64
        self._last_uj: int | None = None
        self._moves_left = LOOKS + 1
        self._differences = 0
        """Of the last readings in a row."""

    def judge(self, before_uj: int, other_uj: int, after_uj: int) -> bool | None:
        """Whether the counters are one; None: not known yet.

        `other_uj` was read between two readings of the first counter. If it is the same one, it
        lies between their values, however fast the counter runs.
        """
        ahead_uj = (other_uj - after_uj) % self._wrap_uj
        behind_uj = (before_uj - other_uj) % self._wrap_uj
        if (other_uj - before_uj) % self._wrap_uj > (after_uj - before_uj) % self._wrap_uj:
            self._differences += 1
            is_far = min(ahead_uj, behind_uj) > FAR_UJ
            return False if is_far or self._differences == DIFFERENCES else None
        self._differences = 0
        if before_uj != self._last_uj:
            self._last_uj = before_uj
            self._moves_left -= 1
        return True if self._moves_left == 0 else None
