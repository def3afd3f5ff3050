"""Where the daemon's agent socket is, and whether what is there may be trusted."""

import os
import stat

SYSTEM_SOCKET = "/run/emissions-exporter/agent.sock"
SOCKET_VARIABLE = "EMISSIONS_EXPORTER_EXPOSE_SOCKET"
ROOT_UID = 0


def user_socket() -> str:
    """The socket of a daemon that this user started."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return os.path.join(runtime, "emissions-exporter", "agent.sock")
    import tempfile  # 3 ms that whoever has a runtime directory need not spend

    try:
        directory = tempfile.gettempdir()
    except FileNotFoundError:  # none may be written: a container with a read-only root
        directory = "/tmp"  # noqa: S108  nothing is made there either
    return os.path.join(directory, f"emissions-exporter-{os.geteuid()}", "agent.sock")


def default_socket() -> str:
    """Where a daemon started by this user listens if nothing else is said."""
    return SYSTEM_SOCKET if os.geteuid() == ROOT_UID else user_socket()


def configured_socket(given: str = "") -> str:
    """The socket that was asked for: the given, or the one of the environment; else empty."""
    return given or os.environ.get(SOCKET_VARIABLE, "")


def default_sockets() -> list[str]:
    """Where to look for a daemon if no socket is named, best first."""
    return [SYSTEM_SOCKET, user_socket()]


def untrusted_reason(path: str) -> str:
    """Why a socket that was found, not named, must not be used; empty if it may.

    Anyone can make a directory in the temporary one, and answer there with lies. Where only root
    can make directories, it is root who lets the daemon's user answer.
    """
    if _is_root_only(os.path.dirname(os.path.dirname(path))):
        return ""
    for place in (os.path.dirname(path), path):
        try:
            owner = os.lstat(place).st_uid
        except OSError:
            return ""  # connecting will say what is wrong
        if owner not in (ROOT_UID, os.geteuid()):
            return f"{place} belongs to user {owner}, who is neither you nor root"
    return ""


def _is_root_only(directory: str) -> bool:
    """Whether nobody but root can put anything into a directory."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    others = stat.S_IWGRP | stat.S_IWOTH
    return stat.S_ISDIR(found.st_mode) and found.st_uid == ROOT_UID and not found.st_mode & others
