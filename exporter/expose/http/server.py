"""Conversations with HTTP clients, one coroutine each, within limits that no client can pass."""

import asyncio
import logging
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.expose.http.http1 import (
    HEAD_END,
    HttpRequest,
    HttpResponse,
    PeerCredentials,
    body_length,
    error_response,
    parse_head,
    render_head,
)
from exporter.expose.web_config.tls import TlsEndpoint
from exporter.units import NANOSECONDS_PER_SECOND

LOG_INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND
"""Between two complaints."""
SSLProtocol.max_size = 16 * 1024
# Each connection holds so much to read into. asyncio's own 256 KiB would make 128 MiB of the
# connections that may be open, for requests that are seldom longer than one.


class TlsHandshakes:
    """Those that are under way; for one more than `most`, the oldest is given up."""

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._open: dict[asyncio.Timeout, None] = {}
        self._complained_ns = -LOG_INTERVAL_NS

    async def handshake(self, writer: asyncio.StreamWriter, entrance: TlsEndpoint) -> None:
        """Encrypt a connection on which nothing was said yet; nothing may be awaited before.

        Raises OSError or TimeoutError for a client that is not let in.
        """
        try:
            async with asyncio.timeout(self._seconds) as patience:
                self._open[patience] = None
                try:
                    if len(self._open) > self._most:
                        self.drop_oldest()
                    await writer.start_tls(
                        entrance.context,
                        ssl_handshake_timeout=self._seconds + 1,  # ours comes first
                    )
                finally:
                    self._open.pop(patience, None)
        except ssl.SSLError as error:
            self._complain(writer, _tls_error_text(error))
            raise
        if why := entrance.rejection_reason(writer.get_extra_info("peercert")):
            self._complain(writer, why)
            raise ConnectionAbortedError

    def drop_oldest(self) -> bool:
        """Make room; False if none is under way."""
        if not self._open:
            return False
        oldest = next(iter(self._open))
        del self._open[oldest]
        oldest.reschedule(0)
        return True

    def close(self) -> None:
        """Give up all."""
        while self.drop_oldest():
            pass

    def _complain(self, writer: asyncio.StreamWriter, why: str) -> None:
        """Say why a client was not let in; not of each, since anybody can make them up."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._complained_ns >= LOG_INTERVAL_NS:
            self._complained_ns = now_ns
            host = (writer.get_extra_info("peername") or ("unknown",))[0]
            log.warning("a client at %s was not let in by TLS: %s", host, why)


def _tls_error_text(error: ssl.SSLError) -> str:
    if error.reason == "HTTP_REQUEST":
        return "it speaks plain http; its URL is to begin with https"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not taken: {error.verify_message}"
    return (error.reason or "it broke off").replace("_", " ").lower()


TlsEndpointProvider = Callable[[], TlsEndpoint | None]
"""Where a new connection comes in; None where it is not encrypted."""


log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class ServerLimits(NamedTuple):
    """What one client, and all together, may take."""

    connections: int = 512
    """Open at once; for one more, the client that has been silent longest is given up."""
    refusals: int = 64
    """Where every connection is busy: how many more are told so; beyond it they are cut off."""
    slow_readers: int = 16
    """Answers that may wait for their readers at once; beyond it the oldest is given up."""
    handshakes: int = 64
    """Of TLS, under way at once; beyond it the oldest is given up."""
    handshake_seconds: float = 2.0
    head_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    request_seconds: float = 5.0
    """For a head, and again for a body."""
    idle_seconds: float = 120.0
    """Between two requests of one connection."""
    read_seconds: float = 10.0
    """For reading an answer; the default timeout of a scrape."""
    linger_seconds: float = 1.0
    """For a refused client to read why, before what it still sends resets the connection."""


DEFAULT_LIMITS = ServerLimits()
TLS_WRITE_BYTES = 16 * 1024
"""What is encrypted at once; so much of an answer can be under way without being seen to wait."""


ConnectionQueue: TypeAlias = dict[asyncio.StreamWriter, None]
"""Connections, the one that has been in it longest first."""


class HttpServer:
    """Answers the connections of any number of listeners, within limits that they share."""

    def __init__(self, clock: Clock, limits: ServerLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._handshakes = TlsHandshakes(clock, limits.handshakes, limits.handshake_seconds)
        self._tasks: set[asyncio.Task[object]] = set()
        self._encrypted: set[asyncio.StreamWriter] = set()
        self._silent: ConnectionQueue = {}
        """Those that have not sent a whole request yet, or not the next one."""
        self._slow: ConnectionQueue = {}
        """Those that have not read their answer yet."""
        self._leaving: set[asyncio.StreamWriter] = set()
        """Those that were given up or refused, and are not gone yet."""
        self._closing = False

    async def handle_connection(
        self,
        handler: Handler,
        opening: TlsEndpointProvider,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Talk with one client until either side has had enough.

        `opening` says whether that is encrypted.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits for all of it
        try:
            if entrance := opening():
                self._make_room(writer, can_be_told=False)
                await self._handshakes.handshake(writer, entrance)
                self._encrypted.add(writer)
                writer.transport.set_write_buffer_limits(high=0)
            else:
                self._make_room(writer)
            await self._serve_requests(handler, reader, writer)
        except RequestRefused as error:
            await self._refuse(reader, writer, error)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            await self._close(writer)
            self._encrypted.discard(writer)
            self._leaving.discard(writer)
            self._tasks.discard(task)

    async def close(self, grace_seconds: float) -> None:
        """End all conversations; answers under way get `grace_seconds` to be finished."""
        self._closing = True
        self._handshakes.close()
        for writer in self._silent:
            writer.transport.abort()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        """Close; an encrypted connection gets a moment for its last words."""
        writer.close()
        if writer not in self._encrypted:
            return
        self._silent[writer] = None
        try:
            async with asyncio.timeout(self._limits.linger_seconds):
                await writer.wait_closed()
        except (OSError, TimeoutError):
            writer.transport.abort()
        finally:
            self._silent.pop(writer, None)

    def _make_room(self, newcomer: asyncio.StreamWriter, *, can_be_told: bool = True) -> None:
        """Give up a silent client for the newcomer, if need be.

        Raises Refused(503) where all are busy; too many of those are just cut off, and so is who
        cannot be told before a handshake.
        """
        if len(self._tasks) - len(self._leaving) <= self._limits.connections:
            return
        if self._silent:
            self._give_up_oldest(self._silent)
            return
        if self._handshakes.drop_oldest():
            return
        crowded = not can_be_told or len(self._leaving) >= self._limits.refusals
        self._leaving.add(newcomer)
        if crowded:
            raise ConnectionAbortedError
        raise RequestRefused(503, "too many connections are open; try again later")

    def _give_up_oldest(self, queue: ConnectionQueue) -> None:
        oldest = next(iter(queue))
        del queue[oldest]
        self._leaving.add(oldest)
        oldest.transport.abort()

    async def _serve_requests(
        self, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = _peer_credentials(writer)
        patience = self._limits.request_seconds  # who connects has something to say
        while not writer.transport.is_closing() and (
            request := await self._next(reader, writer, patience)
        ):
            response = await _handle(handler, request._replace(peer=peer))
            keep_alive = request.keep_alive and not self._closing
            head = render_head(response, self._clock.wall(), keep_alive=keep_alive)
            await self._send(writer, head if request.method == "HEAD" else head + response.body)
            if not keep_alive or self._closing:
                return
            patience = self._limits.idle_seconds

    async def _next(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience_seconds: float
    ) -> HttpRequest | None:
        """The next request, if the client begins one in time. Raises Refused."""
        self._silent[writer] = None
        try:
            async with asyncio.timeout(patience_seconds):
                first = await reader.read(1)
            return await self._read(first, reader, writer) if first else None
        finally:
            self._silent.pop(writer, None)

    async def _read(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> HttpRequest:
        """The request that begins with `first`. Raises Refused."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.request_seconds):
                request = parse_head(first + await reader.readuntil(HEAD_END))
            length = body_length(request, limits.body_bytes)
            if length and request.headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            async with asyncio.timeout(limits.request_seconds):
                return request._replace(body=await reader.readexactly(length))
        except asyncio.LimitOverrunError:
            raise RequestRefused(
                431, f"the head of the request has more than {limits.head_bytes} bytes"
            ) from None
        except TimeoutError:
            raise RequestRefused(
                408, f"the request was not complete after {limits.request_seconds:g} s"
            ) from None

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        """Write a message and wait until the client has taken all of it."""
        if writer not in self._encrypted:
            await self._send_piece(writer, message)
            return
        async with asyncio.timeout(self._limits.read_seconds):
            for start in range(0, len(message), TLS_WRITE_BYTES):
                await self._send_piece(writer, message[start : start + TLS_WRITE_BYTES])

    async def _send_piece(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(piece)
        if not writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)  # who asks for much at once takes turns with the others
            return
        self._slow[writer] = None
        if len(self._slow) > self._limits.slow_readers:
            self._give_up_oldest(self._slow)
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                await writer.drain()
        finally:
            self._slow.pop(writer, None)

    async def _refuse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, error: RequestRefused
    ) -> None:
        """Say why, then read on for a moment: closing over unread bytes would lose the answer."""
        response = error_response(error)
        head = render_head(response, self._clock.wall(), keep_alive=False)
        try:
            await self._send(writer, head + response.body)
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(self._limits.linger_seconds):
                while await reader.read(self._limits.body_bytes):
                    pass
        except (OSError, TimeoutError):
            writer.transport.abort()


async def _handle(handler: Handler, request: HttpRequest) -> HttpResponse:
    try:
        return await handler(request)
    except RequestRefused as error:
        return error_response(error)
    except Exception:
        log.exception("request failed", extra={"path": request.path})
        return error_response(
            RequestRefused(500, "the daemon failed on this request; its log says why")
        )


def _peer_credentials(writer: asyncio.StreamWriter) -> PeerCredentials | None:
    """The process that connected to a UNIX socket, unix(7); None for TCP."""
    connection = writer.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        return None
    form = struct.Struct("iII")
    pid, uid, _ = form.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, form.size)
    )
    return PeerCredentials(uid, pid)
