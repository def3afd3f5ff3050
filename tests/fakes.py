"""A clock that a test moves."""


class FakeClock:
    """All clocks run as one, from a fixed moment, and only when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000_000
        self.epoch = 1_780_000_000.0

    def boottime_ns(self) -> int:
        return self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall(self) -> float:
        return self.epoch + self.now_ns / 1e9

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
