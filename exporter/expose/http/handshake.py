"""TLS handshakes: each with little time, and not many at once that say nothing."""

import asyncio
import logging
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable

from exporter.clock import Clock
from exporter.expose.http.gate.tls import Entrance
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)

SILENCE_NS = 60 * NANOSECONDS_PER_SECOND
"""Between two complaints."""
SSLProtocol.max_size = 16 * 1024
# Each connection holds so much to read into. asyncio's own 256 KiB would make 128 MiB of the
# connections that may be open, for requests that are seldom longer than one.


class Handshakes:
    """Those that are under way; for one more than `most`, the oldest is given up."""

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._open: dict[asyncio.Timeout, None] = {}
        self._complained_ns = -SILENCE_NS

    async def shake(self, writer: asyncio.StreamWriter, entrance: Entrance) -> None:
        """Encrypt a connection on which nothing was said yet; nothing may be awaited before.

        Raises OSError or TimeoutError for a client that is not let in.
        """
        try:
            async with asyncio.timeout(self._seconds) as patience:
                self._open[patience] = None
                try:
                    if len(self._open) > self._most:
                        self.give_up_oldest()
                    await writer.start_tls(
                        entrance.context,
                        ssl_handshake_timeout=self._seconds + 1,  # ours comes first
                    )
                finally:
                    self._open.pop(patience, None)
        except ssl.SSLError as error:
            self._complain(writer, _words(error))
            raise
        if why := entrance.refuses(writer.get_extra_info("peercert")):
            self._complain(writer, why)
            raise ConnectionAbortedError

    def give_up_oldest(self) -> bool:
        """Make room; False if none is under way."""
        if not self._open:
            return False
        oldest = next(iter(self._open))
        del self._open[oldest]
        oldest.reschedule(0)
        return True

    def close(self) -> None:
        """Give up all."""
        while self.give_up_oldest():
            pass

    def _complain(self, writer: asyncio.StreamWriter, why: str) -> None:
        """Say why a client was not let in; not of each, since anybody can make them up."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._complained_ns >= SILENCE_NS:
            self._complained_ns = now_ns
            host = (writer.get_extra_info("peername") or ("unknown",))[0]
            log.warning("a client at %s was not let in by TLS: %s", host, why)


def _words(error: ssl.SSLError) -> str:
    if error.reason == "HTTP_REQUEST":
        return "it speaks plain http; its URL is to begin with https"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not taken: {error.verify_message}"
    return (error.reason or "it broke off").replace("_", " ").lower()


Opening = Callable[[], Entrance | None]
"""Where a new connection comes in; None where it is not encrypted."""
