"""What systemd is told of a daemon: that it is ready, alive, reloading or stopping (sd_notify)."""

import os
import socket
from collections.abc import Mapping

from exporter.clock import Clock
from exporter.units import NANOSECONDS_PER_MICROSECOND

HEARTBEATS_PER_TIMEOUT = 4
"""systemd advises two; a tick may be late."""


class SystemdNotifier:
    """Talks to the socket that systemd named in the environment; silent where it named none.

    Nothing here raises or waits: a daemon that cannot be heard works all the same.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._clock = clock
        self._beaten_ns = 0
        timeout_us = _timeout_us(environment) if self._address else 0
        self.heartbeat_interval_ns = (
            timeout_us * NANOSECONDS_PER_MICROSECOND // HEARTBEATS_PER_TIMEOUT
        )
        """Longest time between two calls of `beat`; 0 where nobody watches."""

    def ready(self, status: str) -> None:
        """The daemon serves, for the first time or again after `reloading`."""
        self._send(f"READY=1\nSTATUS={status}")

    def heartbeat(self) -> None:
        """The loop is alive; said no more often than the watchdog needs it."""
        now_ns = self._clock.monotonic_ns()
        if self.heartbeat_interval_ns and now_ns - self._beaten_ns >= self.heartbeat_interval_ns:
            self._beaten_ns = now_ns
            self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The settings are about to be read again; `ready` ends it."""
        now_us = self._clock.monotonic_ns() // NANOSECONDS_PER_MICROSECOND
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reading the settings again")

    def stopping(self) -> None:
        """The daemon makes everything durable and ends."""
        self._send("STOPPING=1\nSTATUS=writing the totals")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.sendto(state.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:
            return


def _socket_address(named: str) -> str:
    """A path, or an abstract name, which is written with `@`; anything else is not for us."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else ""


def _timeout_us(environment: Mapping[str, str]) -> int:
    """The time after which a silent daemon is restarted; 0 for never."""
    watched = environment.get("WATCHDOG_PID", "")
    microseconds = environment.get("WATCHDOG_USEC", "")
    if watched not in ("", str(os.getpid())) or not microseconds.isascii():
        return 0
    return int(microseconds) if microseconds.isdigit() else 0
