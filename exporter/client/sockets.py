"""Where the daemon's agent socket is."""

import os
import tempfile

SYSTEM_SOCKET = "/run/emissions-exporter/agent.sock"
VARIABLE = "EMISSIONS_EXPORTER_EXPOSE_SOCKET"


def user_socket() -> str:
    """The socket of a daemon that this user started."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "emissions-exporter", "agent.sock")
    private = f"emissions-exporter-{os.geteuid()}"
    return os.path.join(tempfile.gettempdir(), private, "agent.sock")


def default_socket() -> str:
    """Where a daemon started by this user listens if nothing else is said."""
    return SYSTEM_SOCKET if os.geteuid() == 0 else user_socket()


def candidates(given: str = "") -> list[str]:
    """Sockets to try, best first: the given, the one of the environment, or the usual two."""
    named = given or os.environ.get(VARIABLE, "")
    return [named] if named else [SYSTEM_SOCKET, user_socket()]
