"""Unary gRPC calls over a UNIX socket, one connection for each, with the `h2` library.

grpcio has connection pools and threads, and takes 15 MB more memory. The protocol is
doc/PROTOCOL-HTTP2.md of the gRPC repository, the status codes are those of doc/statuscodes.md.
"""

import socket
from contextlib import suppress
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from exporter.errors import SourceError
from exporter.worker import deadline, seconds_until

STATUS_NAMES = (
    *("ok", "cancelled", "unknown", "invalid argument", "deadline exceeded", "not found"),
    *("already exists", "permission denied", "resource exhausted", "failed precondition"),
    *("aborted", "out of range", "unimplemented", "internal", "unavailable", "data loss"),
    "unauthenticated",
)
"""Names of the status codes 0 to 16."""
STATUS_BY_CODE = {str(code): name for code, name in enumerate(STATUS_NAMES)}
MAX_MESSAGE_BYTES = 64 << 20
MESSAGE_PREFIX_BYTES = 5
"""Compressed-Flag and Message-Length."""
EMPTY_MESSAGE = bytes(MESSAGE_PREFIX_BYTES)
RECEIVE_BYTES = 1 << 16
MIN_TIMEOUT_SECONDS = 0.001
"""0 would not wait at all, also not for what has arrived."""
CLOSED = "the connection was closed"


class GrpcClient:
    """Calls methods of one server without an argument."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._is_closed = False

    def call(self, method: str, timeout_seconds: float) -> bytes:
        """Return the message that `method`, `/SERVICE/METHOD`, answers. Raises SourceError."""
        until = deadline(timeout_seconds)
        with socket.socket(socket.AF_UNIX) as connection:
            self._socket = connection
            if self._is_closed:
                raise SourceError(CLOSED)
            try:
                connection.settimeout(timeout_seconds)
                connection.connect(self._path)
                return _Call(connection, until).answer(method, timeout_seconds)
            except TimeoutError:
                raise SourceError("deadline exceeded") from None
            except OSError as error:
                raise SourceError(f"unavailable: {error.strerror}") from None
            except H2Error as error:
                raise SourceError(f"invalid HTTP/2: {error!r}") from None
            finally:
                self._socket = None

    def close(self) -> None:
        """End the current call, and refuse further ones; may be called from another thread."""
        self._is_closed = True
        if (connection := self._socket) is not None:
            with suppress(OSError):  # not connected yet, or closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class _Call:
    """One call on a new connection."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._socket = connection
        self._until = until
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._headers: dict[str, str] = {}
        self._body = bytearray()

    def answer(self, method: str, timeout_seconds: float) -> bytes:
        http = self._http
        http.initiate_connection()
        stream = http.get_next_available_stream_id()
        headers = (
            *((":method", "POST"), (":scheme", "http"), (":path", method)),
            *((":authority", "localhost"), ("te", "trailers")),
            *(("content-type", "application/grpc"), ("user-agent", "emissions-exporter")),
            ("grpc-timeout", f"{round(timeout_seconds * 1000)}m"),
        )
        http.send_headers(stream, headers)
        http.send_data(stream, EMPTY_MESSAGE, end_stream=True)
        for of_stream in (None, stream):  # so that no data has to be acknowledged
            http.increment_flow_control_window(MAX_MESSAGE_BYTES, of_stream)
        while True:
            self._socket.settimeout(max(MIN_TIMEOUT_SECONDS, seconds_until(self._until)))
            if to_send := http.data_to_send():
                self._socket.sendall(to_send)
            if not (received := self._socket.recv(RECEIVE_BYTES)):
                raise SourceError(CLOSED)
            if any(self._handle(event) for event in http.receive_data(received)):
                return self._message()

    def _handle(self, event: Event) -> bool:
        """Handle an event; return whether it is the end of the answer."""
        if isinstance(event, ResponseReceived | TrailersReceived):
            self._headers.update((_text(name), _text(value)) for name, value in event.headers)
        elif isinstance(event, DataReceived):
            self._body += event.data
        elif isinstance(event, StreamReset | ConnectionTerminated):
            raise SourceError(f"{CLOSED}: {event}")
        return isinstance(event, StreamEnded)

    def _message(self) -> bytes:
        code = self._headers.get("grpc-status", "")
        if code != "0":
            status = self._headers.get(":status", "")
            name = STATUS_BY_CODE.get(code, f"HTTP {status}, grpc-status {code!r:.50}")
            reason = unquote(self._headers.get("grpc-message", ""))
            raise SourceError(f"{name}: {reason}" if reason else name)
        prefix, message = self._body[:MESSAGE_PREFIX_BYTES], self._body[MESSAGE_PREFIX_BYTES:]
        if prefix != bytes([0, *len(message).to_bytes(4)]):
            raise SourceError("the answer is compressed or incomplete")
        return bytes(message)


def _text(header: bytes | str) -> str:
    return header.decode("utf-8", "replace") if isinstance(header, bytes) else header
