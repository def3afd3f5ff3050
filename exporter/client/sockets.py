"""The daemon's agent socket: its location, whether it can be trusted, and connections to it."""

import os
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

SYSTEM_SOCKET = "/run/emissions-exporter/agent.sock"
SOCKET_VARIABLE = "EMISSIONS_EXPORTER_EXPOSE_SOCKET"
ROOT_UID = 0
FULL_QUEUE_POLL_SECONDS = 0.02


def user_socket() -> str:
    """Return the socket of a daemon started by this user."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "emissions-exporter", "agent.sock")
    import tempfile  # takes 3 ms, so it is imported only without a runtime directory

    try:
        directory = tempfile.gettempdir()
    except FileNotFoundError:  # no directory is writable: a container with a read-only root
        directory = "/tmp"  # noqa: S108  nothing is created there either
    return os.path.join(directory, f"emissions-exporter-{os.geteuid()}", "agent.sock")


def default_socket() -> str:
    """Return the default socket of a daemon started by this user."""
    return SYSTEM_SOCKET if os.geteuid() == ROOT_UID else user_socket()


def configured_socket(given: str = "") -> str:
    """Return `given`, or the socket in the environment, or ""."""
    return given or os.environ.get(SOCKET_VARIABLE, "")


def default_sockets() -> list[str]:
    """Return the sockets to try if none is configured, in order of preference."""
    return [SYSTEM_SOCKET, user_socket()]


def connect(path: str, timeout_seconds: float) -> "socket.socket":
    """Connect to a UNIX socket, and wait while its queue is full. Raises OSError.

    A socket with a timeout does not wait by itself: it fails at once with EAGAIN, connect(2).
    """
    import socket

    deadline = time.monotonic() + timeout_seconds
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    try:
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError("timed out: its queue of connections is full") from None
                time.sleep(FULL_QUEUE_POLL_SECONDS)
            else:
                return connection
    except BaseException:
        connection.close()
        raise


def untrusted_reason(path: str) -> str:
    """Return why a socket that was not configured must not be used; "" if it can be trusted.

    Any user can create a directory in a temporary directory and answer there with false data. A
    directory that only root can create is trusted, whichever user the daemon runs as.
    """
    if _is_root_only(os.path.dirname(os.path.dirname(path))):
        return ""
    for checked_path in (os.path.dirname(path), path):
        try:
            owner = os.lstat(checked_path).st_uid
        except OSError:
            return ""  # connecting reports the error
        if owner not in (ROOT_UID, os.geteuid()):
            return f"{checked_path} belongs to user {owner}, who is neither you nor root"
    return ""


def _is_root_only(directory: str) -> bool:
    """Whether only root can create files in a directory."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return (
        stat.S_ISDIR(status.st_mode) and status.st_uid == ROOT_UID and not status.st_mode & others
    )
