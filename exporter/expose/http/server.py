"""HTTP server: one coroutine per connection, with limits that no client can exceed."""

import asyncio
import logging
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.expose.http.bounded_executor import CLIENT
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
from exporter.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from exporter.expose.web_config.tls import TlsEndpoint

LOG_INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND
"""Minimum time between two log messages of the same kind."""
SSLProtocol.max_size = 16 * 1024
# Read buffer of each connection. asyncio's default of 256 KiB would use 128 MiB for the maximum
# number of connections, for requests that are rarely longer than 1 KiB.


class TlsHandshakes:
    """TLS handshakes in progress; beyond `most`, the oldest one is aborted."""

    def __init__(self, clock: Clock, most: int, seconds: float) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._open: dict[asyncio.Timeout, None] = {}
        self._logged_ns = -LOG_INTERVAL_NS

    async def handshake(self, writer: asyncio.StreamWriter, endpoint: "TlsEndpoint") -> None:
        """Perform the TLS handshake on a new connection; nothing may be awaited before.

        Raises OSError or TimeoutError if the handshake fails.
        """
        try:
            async with asyncio.timeout(self._seconds) as timeout:
                self._open[timeout] = None
                try:
                    if len(self._open) > self._most:
                        self.drop_oldest()
                    await writer.start_tls(
                        endpoint.context,
                        ssl_handshake_timeout=self._seconds + 1,  # the outer timeout applies first
                    )
                finally:
                    self._open.pop(timeout, None)
        except ssl.SSLError as error:
            self._log_failure(writer, _tls_error_text(error))
            raise
        if reason := endpoint.rejection_reason(writer.get_extra_info("peercert")):
            self._log_failure(writer, reason)
            raise ConnectionAbortedError

    def drop_oldest(self) -> bool:
        """Abort the oldest handshake; returns False if there is none."""
        if not self._open:
            return False
        oldest = next(iter(self._open))
        del self._open[oldest]
        oldest.reschedule(0)
        return True

    def close(self) -> None:
        """Abort all handshakes."""
        while self.drop_oldest():
            pass

    def _log_failure(self, writer: asyncio.StreamWriter, reason: str) -> None:
        """Log a failed handshake; rate-limited, since anyone can cause them."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= LOG_INTERVAL_NS:
            self._logged_ns = now_ns
            host = (writer.get_extra_info("peername") or ("unknown",))[0]
            log.warning("TLS handshake failed", extra={"client": host, "error": reason})


def _tls_error_text(error: ssl.SSLError) -> str:
    if error.reason == "HTTP_REQUEST":
        return "plain HTTP request on a TLS port; use a URL with https"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"client certificate rejected: {error.verify_message}"
    return (error.reason or "connection closed by client").replace("_", " ").lower()


TlsEndpointProvider: TypeAlias = "Callable[[], TlsEndpoint | None]"
"""Returns the TLS endpoint for a new connection, or None without TLS."""


log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]


class ServerLimits(NamedTuple):
    """Limits per client and in total."""

    connections: int = 512
    """Open connections; beyond it, the connection that was idle longest is closed."""
    refusals: int = 64
    """Rejected clients that get an error response at once while all connections are busy.

    Beyond it they are disconnected.
    """
    slow_readers: int = 16
    """Responses waiting for slow readers at once; beyond it, the oldest is aborted."""
    handshakes: int = 64
    """TLS handshakes at once; beyond it, the oldest is aborted."""
    handshake_seconds: float = 2.0
    head_bytes: int = 16 * 1024
    body_bytes: int = 64 * 1024
    request_seconds: float = 5.0
    """For the head of a request, and again for its body."""
    idle_seconds: float = 120.0
    """Between two requests on a connection."""
    read_seconds: float = 10.0
    """For the client to read a response; the default timeout of a scrape."""
    linger_seconds: float = 1.0
    """For a rejected client to read the error, before unread data resets the connection."""


DEFAULT_LIMITS = ServerLimits()
TLS_WRITE_BYTES = 16 * 1024
"""Piece size for encrypted responses: as much is in flight without being seen as waiting."""


ConnectionQueue: TypeAlias = dict[asyncio.StreamWriter, None]
"""Connections, longest member first."""


class HttpServer:
    """Serves the connections of any number of listeners, within shared limits."""

    def __init__(self, clock: Clock, limits: ServerLimits) -> None:
        self._clock = clock
        self._limits = limits
        self._handshakes = TlsHandshakes(clock, limits.handshakes, limits.handshake_seconds)
        self._tasks: set[asyncio.Task[object]] = set()
        self._encrypted: set[asyncio.StreamWriter] = set()
        self._silent: ConnectionQueue = {}
        """Connections that have not sent a complete request, or the next one."""
        self._slow: ConnectionQueue = {}
        """Connections that have not read their response yet."""
        self._leaving: set[asyncio.StreamWriter] = set()
        """Connections that were aborted or rejected, but are not closed yet."""
        self._closing = False

    async def handle_connection(
        self,
        handler: Handler,
        endpoint_of: TlsEndpointProvider,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Serve one client until either side closes the connection.

        `endpoint_of` returns the TLS endpoint, or None without TLS.
        """
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        CLIENT.set(_client_of(writer))
        writer.transport.set_write_buffer_limits(high=0)  # so that `drain` waits for all of it
        try:
            if endpoint := endpoint_of():
                self._make_room(writer, can_respond=False)
                await self._handshakes.handshake(writer, endpoint)
                self._encrypted.add(writer)
                writer.transport.set_write_buffer_limits(high=0)
            else:
                self._make_room(writer)
            await self._serve_requests(handler, reader, writer)
        except RequestRefused as error:
            await self._refuse(reader, writer, error)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()
            if not self._closing:
                raise  # asyncio of Python 3.11 logs a connection that ends so as a defect
        finally:
            await self._close(writer)
            self._encrypted.discard(writer)
            self._leaving.discard(writer)
            self._tasks.discard(task)

    async def close(self, grace_seconds: float) -> None:
        """Close all connections; responses in progress get `grace_seconds` to complete."""
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
        """Close the connection; TLS gets a moment for its closing messages."""
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

    def _make_room(self, newcomer: asyncio.StreamWriter, *, can_respond: bool = True) -> None:
        """Close an idle connection for the new one, if the limit is reached.

        Raises RequestRefused(503) if all connections are busy. Beyond the limit of rejected
        clients, or before a handshake, when no response is possible, the connection is aborted.
        """
        if len(self._tasks) - len(self._leaving) <= self._limits.connections:
            return
        if self._silent:
            self._give_up_oldest(self._silent)
            return
        if self._handshakes.drop_oldest():
            return
        must_abort = not can_respond or len(self._leaving) >= self._limits.refusals
        self._leaving.add(newcomer)
        if must_abort:
            raise ConnectionAbortedError
        raise RequestRefused(503, "too many open connections; try again later")

    def _give_up_oldest(self, queue: ConnectionQueue) -> None:
        oldest = next(iter(queue))
        del queue[oldest]
        self._leaving.add(oldest)
        oldest.transport.abort()

    async def _serve_requests(
        self, handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        peer = _peer_credentials(writer)
        timeout = self._limits.request_seconds  # a new connection is expected to send a request
        while not writer.transport.is_closing() and (
            request := await self._next(reader, writer, timeout)
        ):
            response = await _handle(handler, request._replace(peer=peer))
            keep_alive = request.keep_alive and not self._closing
            head = render_head(response, self._clock.wall(), keep_alive=keep_alive)
            await self._send(writer, head if request.method == "HEAD" else head + response.body)
            if not keep_alive or self._closing:
                return
            timeout = self._limits.idle_seconds

    async def _next(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_seconds: float
    ) -> HttpRequest | None:
        """Return the next request, if the client begins one in time. Raises RequestRefused."""
        self._silent[writer] = None
        try:
            async with asyncio.timeout(timeout_seconds):
                first = await reader.read(1)
            return await self._read(first, reader, writer) if first else None
        finally:
            self._silent.pop(writer, None)

    async def _read(
        self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> HttpRequest:
        """Read the request that begins with `first`. Raises RequestRefused."""
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
                431, f"the request head has more than {limits.head_bytes} bytes"
            ) from None
        except TimeoutError:
            raise RequestRefused(
                408, f"the request was not complete within {limits.request_seconds:g} s"
            ) from None

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        """Write a message and wait until the client has read all of it."""
        if writer not in self._encrypted:
            await self._send_piece(writer, message)
            return
        async with asyncio.timeout(self._limits.read_seconds):
            for start in range(0, len(message), TLS_WRITE_BYTES):
                await self._send_piece(writer, message[start : start + TLS_WRITE_BYTES])

    async def _send_piece(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        writer.write(piece)
        if not writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)  # let other connections run between the pieces
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
        """Send the error, then read on: closing with unread data would lose the response."""
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
        return error_response(RequestRefused(500, "internal error; see the daemon's log"))


def _client_of(writer: asyncio.StreamWriter) -> str:
    """Return the client of a connection: the user of a process, or a network address."""
    if peer := _peer_credentials(writer):
        return f"uid {peer.uid}"
    return _client_of_address((writer.get_extra_info("peername") or ("",))[0])


def _client_of_address(host: str) -> str:
    """Return a host; of IPv6 its prefix of 64 bits, in which a machine can have any address."""
    if ":" not in host or "." in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:8].hex()


def _peer_credentials(writer: asyncio.StreamWriter) -> PeerCredentials | None:
    """Return the credentials of the peer of a UNIX socket, unix(7); None for TCP."""
    connection = writer.get_extra_info("socket")
    if connection.family != socket.AF_UNIX:
        return None
    credentials = struct.Struct("iII")
    pid, uid, _ = credentials.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    )
    return PeerCredentials(uid, pid)
