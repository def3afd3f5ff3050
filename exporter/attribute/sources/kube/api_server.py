"""A client of the Kubernetes API server that uses the pod's service account."""

import http.client
import json
import os
import socket
import ssl
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from exporter.errors import Unavailable

CALL_SECONDS = 10.0
LINE_BYTES = 8 << 20
ANSWER_BYTES = 64 << 20
KEEPALIVE = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): 15,
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): 5,
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): 3,
}
"""Socket options, times in seconds: a dead peer is detected after half a minute."""


class ApiError(Exception):
    """The request failed. `status` is the HTTP status, 0 without a response."""

    def __init__(self, status: int, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after
        """Delay in seconds requested by the server."""


class _KeepaliveConnection(http.client.HTTPSConnection):
    """An HTTPS connection with TCP keepalive, since a watch may be silent for long."""

    def connect(self) -> None:
        super().connect()
        for option, value in KEEPALIVE.items():
            self.sock.setsockopt(*option, value)


class ApiServerClient:
    """Client of one API server, authenticated by the token and the CA of a service account.

    Both files are read again for each connection: the token expires, and the kubelet replaces the
    CA when the cluster rotates it. Raises Unavailable outside of a cluster, or without a service
    account.
    """

    def __init__(self, host: str, port: str, account: str) -> None:
        if not host:
            raise Unavailable("not running in a cluster: KUBERNETES_SERVICE_HOST is not set")
        self._token = os.path.join(account, "token")
        if not os.path.exists(self._token):
            raise Unavailable(
                f"{self._token} does not exist; give the pod a service account and set "
                "automountServiceAccountToken: true"
            )
        self._host = host
        self._port = int(port or "443")
        self._authorities = os.path.join(account, "ca.crt")
        try:
            self._context()
        except OSError as error:
            raise Unavailable(f"{self._authorities}: {error.strerror or error}") from None
        self._active_watch: http.client.HTTPSConnection | None = None
        self._is_interrupted = False

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Get one JSON document. Raises ApiError."""
        with closing(self._connection(CALL_SECONDS)) as connection:
            answer = self._answer(connection, path, query)
            return _document(_read(answer))

    def watch(self, path: str, seconds: int, **query: str) -> Iterator[dict[str, Any]]:
        """Watch a resource: yields one JSON document per event until the server ends the watch.

        Raises ApiError; if the request fails, before the first event.
        """
        parameters = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        connection = self._active_watch = self._connection(seconds + CALL_SECONDS)
        try:
            return self._events(connection, self._answer(connection, path, parameters))
        except ApiError:
            self._close(connection)
            raise

    def _events(
        self, connection: http.client.HTTPSConnection, answer: http.client.HTTPResponse
    ) -> Iterator[dict[str, Any]]:
        try:
            while not self._is_interrupted and (line := answer.readline(LINE_BYTES)):
                yield _document(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"the watch was interrupted: {error}") from None
        finally:
            self._close(connection)

    def _close(self, connection: http.client.HTTPSConnection) -> None:
        self._active_watch = None
        connection.close()

    def interrupt(self) -> None:
        """End the current watch and all later ones; called from another thread."""
        self._is_interrupted = True
        connection = self._active_watch
        sock = connection.sock if connection is not None else None
        if sock is not None:  # read once: the watching thread may close it meanwhile
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connection(self, timeout_seconds: float) -> http.client.HTTPSConnection:
        try:
            context = self._context()
        except OSError as error:
            raise ApiError(0, f"{self._authorities}: {error.strerror or error}") from None
        return _KeepaliveConnection(
            self._host, self._port, timeout=timeout_seconds, context=context
        )

    def _context(self) -> ssl.SSLContext:
        """A TLS context with the CA of the service account, verified as by kubectl and client-go.

        Python 3.13 sets VERIFY_X509_STRICT by default, which rejects a CA without the extensions
        keyUsage or authorityKeyIdentifier, as in many clusters; RFC 5280 requires them and Go
        does not. Every certificate in the file is a trust anchor, also an intermediate one: as in
        Go, and by default since Python 3.13. All other checks are kept. Raises OSError.
        """
        context = ssl.create_default_context(cafile=self._authorities)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _answer(
        self, connection: http.client.HTTPSConnection, path: str, query: dict[str, str]
    ) -> http.client.HTTPResponse:
        try:
            with open(self._token, encoding="ascii") as file:
                token = file.read().strip()
            target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"{self._host}:{self._port} does not answer: {error}") from None
        if answer.status != http.client.OK:
            wait = answer.headers.get("Retry-After", "")
            raise ApiError(
                answer.status,
                _error_message(answer.status, _read(answer)),
                float(wait[:9]) if wait.isascii() and wait.isdecimal() else 0.0,
            )
        return answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        body = answer.read(ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ApiError(0, f"the response was interrupted: {error}") from None
    if len(body) > ANSWER_BYTES:
        raise ApiError(0, f"the response is larger than {ANSWER_BYTES >> 20} MiB")
    return body


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(0, f"the response is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ApiError(0, "the response is not a JSON object")
    return document


def _error_message(status: int, body: bytes) -> str:
    """Status and message of a failed request, in one line."""
    try:
        message = str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError, RecursionError):
        message = ""
    line = " ".join(message.split())[:200]
    return f"{status} {http.client.responses.get(status, '')}: {line}".rstrip(": ")
