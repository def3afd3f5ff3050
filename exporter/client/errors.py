"""What can go wrong between a program and the daemon."""


class AgentUnreachable(Exception):
    """No daemon answered on any of the sockets that were tried."""


class BudgetExceeded(Exception):
    """A run has emitted more than it was to, or will have; the text says how much."""


class NotMeasured(Exception):
    """A tracker that is strict found nobody to measure its run; the text says why."""


class AgentRefusal(Exception):
    """The daemon answered with a refusal.

    `status` is the HTTP status of the answer; the text says what to do.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
