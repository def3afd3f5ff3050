"""Exponential backoff between retries."""


class Backoff:
    """Delay after each failure in a row: the first delay, doubled each time, up to a maximum."""

    def __init__(self, first_seconds: float, longest_seconds: float, failures: int = 0) -> None:
        """`failures` continues a row of failures that began before a restart."""
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self.failures = failures

    @property
    def seconds(self) -> float:
        """The delay after the last failure; 0 where there was none."""
        if not self.failures:
            return 0.0
        doublings = min(self.failures - 1, 64)  # a float can be no larger than 2**1023
        return min(self._first_seconds * 2.0**doublings, self._longest_seconds)

    def fail(self) -> float:
        """Count a failure; the delay in seconds."""
        self.failures += 1
        return self.seconds

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
