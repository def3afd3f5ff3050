"""Exceptions of the client."""


class AgentUnreachable(Exception):
    """No daemon answered on any of the sockets."""


class BudgetExceeded(Exception):
    """A run has exceeded its emission budget, or is forecast to exceed it."""


class NotMeasured(Exception):
    """A tracker with `strict=True` could not register its run with a daemon."""


class AgentRefusal(Exception):
    """The daemon answered with an error.

    `status` is the HTTP status; the message contains the remedy.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
