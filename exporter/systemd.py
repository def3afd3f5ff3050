"""Client of the sd_notify protocol of systemd: READY, WATCHDOG, RELOADING, STOPPING."""

import os
import socket
from collections.abc import Mapping

from exporter.clock import Clock
from exporter.units import NANOSECONDS_PER_MICROSECOND

MAX_DIGITS = 18
"""Of a timeout; Python does not parse numbers of any length."""
HEARTBEATS_PER_TIMEOUT = 4
"""systemd recommends two; more tolerate a late tick."""


class SystemdNotifier:
    """Sends states to `$NOTIFY_SOCKET`; does nothing if it is not set.

    No method raises or blocks, so that a failing notification never affects the daemon.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._clock = clock
        self._sent_ns = 0
        timeout_us = _timeout_us(environment) if self._address else 0
        self.heartbeat_interval_ns = (
            timeout_us * NANOSECONDS_PER_MICROSECOND // HEARTBEATS_PER_TIMEOUT
        )
        """Maximum time between two calls of `heartbeat`; 0 if the watchdog is disabled."""

    def ready(self, status: str) -> None:
        """Report that the daemon serves, after startup or after `reloading`."""
        self._send(f"READY=1\nSTATUS={status}")

    def heartbeat(self) -> None:
        """Report that the loop is alive, no more often than the watchdog requires."""
        now_ns = self._clock.monotonic_ns()
        if self.heartbeat_interval_ns and now_ns - self._sent_ns >= self.heartbeat_interval_ns:
            self._sent_ns = now_ns
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Report that the settings are being reloaded; `ready` ends this state."""
        now_us = self._clock.monotonic_ns() // NANOSECONDS_PER_MICROSECOND
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading settings")

    def stopping(self) -> None:
        """Report that the daemon commits its totals and exits."""
        self._send("STOPPING=1\nSTATUS=committing totals")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return


def _socket_address(name: str) -> str:
    """Return the address for a path or an abstract name (`@...`); "" for anything else."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _timeout_us(environment: Mapping[str, str]) -> int:
    """Return the watchdog timeout in microseconds; 0 if it is disabled for this process."""
    watched_pid = environment.get("WATCHDOG_PID", "")
    microseconds = environment.get("WATCHDOG_USEC", "")
    if watched_pid not in ("", str(os.getpid())) or not microseconds.isascii():
        return 0
    is_number = microseconds.isdigit() and len(microseconds) <= MAX_DIGITS
    return int(microseconds) if is_number else 0
