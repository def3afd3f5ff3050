"""What can go wrong between a program and the daemon."""


class AgentUnreachable(Exception):
    """No daemon answered on any of the sockets that were tried."""


class AgentRefusal(Exception):
    """The daemon answered with a refusal; the text says what to do."""
