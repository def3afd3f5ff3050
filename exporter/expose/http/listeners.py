"""The listening sockets of the daemon."""

import errno
import os
import socket
import stat

from exporter.errors import ConfigError

BACKLOG = 1024
"""Length of the kernel's accept queue; beyond it a client retries only after a second."""
MAX_DIGITS = 9
"""Of a port; Python does not parse numbers of any length."""
LISTEN_ADDRESS_FLAG = "--web.listen-address"
SOCKET_PATH_FLAG = "--socket.path"
MAX_SOCKET_PATH_BYTES = 107
"""Maximum length of a socket path in bytes, unix(7)."""
PROBE_SECONDS = 1.0
REMEDIES = {
    errno.EACCES: "ports below 1024 require root; choose a higher one",
    errno.EADDRNOTAVAIL: "choose an address of this machine, or :PORT for all addresses",
}


def listen_tcp(address: str) -> list[socket.socket]:
    """Open sockets for `host:port`, `[host]:port`, or `:port` for all addresses.

    Raises ConfigError.
    """
    host, port = parse_address(address)
    if not host:
        return [_listen_all_addresses(address, port)]
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(
            f"{LISTEN_ADDRESS_FLAG}={address}: cannot resolve {host}: {error.strerror}"
        ) from None
    opened: list[socket.socket] = []
    try:
        for family, _, _, _, sockaddr in dict.fromkeys(addresses):
            opened.append(socket.create_server(sockaddr[:2], family=family, backlog=BACKLOG))
    except OSError as error:
        for listener in opened:
            listener.close()
        raise _cannot_listen(address, error) from None
    return opened


def parse_address(address: str) -> tuple[str, int]:
    """Return host (possibly empty) and port. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed) or not port.isascii() or not port.isdecimal():
        raise ConfigError(
            f"{LISTEN_ADDRESS_FLAG}={address}: expected host:port, for example :10680, "
            "127.0.0.1:10680 or [::1]:10680"
        )
    if len(port) > MAX_DIGITS or int(port) > 65535:
        raise ConfigError(f"{LISTEN_ADDRESS_FLAG}={address}: the highest port is 65535")
    return (host[1:-1] if bracketed else host), int(port)


def _listen_all_addresses(address: str, port: int) -> socket.socket:
    """Open one socket for IPv4 and IPv6, or for IPv4 only if the machine has no IPv6."""
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        return socket.create_server(("", port), backlog=BACKLOG)
    except OSError as error:
        raise _cannot_listen(address, error) from None


def _cannot_listen(address: str, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"{LISTEN_ADDRESS_FLAG}={address}: address in use by another program; stop it, or "
            "choose another address (expose.listen_address; with `make run`, "
            f"ARGS={LISTEN_ADDRESS_FLAG}=127.0.0.1:0 for a free port)"
        )
    number = error.errno or 0  # the error's own text repeats the address
    remedy = REMEDIES.get(number, "choose another address")
    return ConfigError(
        f"{LISTEN_ADDRESS_FLAG}={address}: cannot listen: {os.strerror(number)}; {remedy}"
    )


def listen_unix(path: str) -> socket.socket:
    """Open the agent socket. Any user may connect; the kernel identifies the peer.

    A stale socket file of a killed daemon is replaced. Raises ConfigError.
    """
    if (size := len(os.fsencode(path))) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{SOCKET_PATH_FLAG}={path}: has {size} bytes, the limit of the kernel is "
            f"{MAX_SOCKET_PATH_BYTES}; choose a shorter path"
        )
    directory = os.path.dirname(os.path.abspath(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.makedirs(directory, mode=0o755 if os.geteuid() == 0 else 0o700, exist_ok=True)
        _check_owner(path, directory)
        _remove_stale(path)
        listener.bind(path)
        os.chmod(path, 0o666)  # noqa: S103  any user may connect; the kernel identifies the peer
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{SOCKET_PATH_FLAG}={path}: cannot listen: {error.strerror or error}; choose "
            "a path in a directory that the exporter's user may write to"
        ) from None
    except ConfigError:
        listener.close()
        raise
    return listener


def _check_owner(path: str, directory: str) -> None:
    """Raise ConfigError if another user owns the directory and could replace the socket."""
    owner = os.stat(directory).st_uid
    if owner not in (0, os.geteuid()):
        raise ConfigError(
            f"{SOCKET_PATH_FLAG}={path}: {directory} belongs to user {owner}; choose a directory "
            "of your own"
        )


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(
            f"{SOCKET_PATH_FLAG}={path}: a file that is not a socket exists there; remove it, or "
            "choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # a daemon listens, and its queue is full
    raise ConfigError(
        f"{SOCKET_PATH_FLAG}={path}: in use by another daemon; stop it, or choose another path"
    )
