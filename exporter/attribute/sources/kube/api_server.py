"""Asking the Kubernetes API server, with the rights of the pod's service account."""

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
"""Options of sockets; seconds."""


class ApiError(Exception):
    """The server refused, or did not answer. `status` is 0 where there was no answer."""

    def __init__(self, status: int, text: str, retry_after: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""


class _KeepaliveConnection(http.client.HTTPSConnection):
    """One that is found broken, though nothing was to be sent, half a minute after its peer went.

    A watch is silent while nothing happens.
    """

    def connect(self) -> None:
        super().connect()
        for option, value in KEEPALIVE.items():
            self.sock.setsockopt(*option, value)


class ApiServerClient:
    """Client of one API server, with the token and the CA of a service account.

    Both files are read anew for each connection: the token expires, and the kubelet replaces the
    CA when the cluster rotates it. Raises Unavailable outside of a cluster, or without a service
    account.
    """

    def __init__(self, host: str, port: str, account: str) -> None:
        if not host:
            raise Unavailable("not in a cluster: KUBERNETES_SERVICE_HOST is not set")
        self._token = os.path.join(account, "token")
        if not os.path.exists(self._token):
            raise Unavailable(
                f"there is no {self._token}; give the pod a service account and set "
                "automountServiceAccountToken: true"
            )
        self._host = host
        self._port = int(port or "443")
        self._authorities = os.path.join(account, "ca.crt")
        try:
            self._context()
        except OSError as error:
            raise Unavailable(f"{self._authorities}: {error.strerror or error}") from None
        self._open: http.client.HTTPSConnection | None = None
        self._is_interrupted = False

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """One document. Raises ApiError."""
        with closing(self._connection(CALL_SECONDS)) as connection:
            answer = self._answer(connection, path, query)
            return _document(_read(answer))

    def watch(self, path: str, seconds: int, **query: str) -> Iterator[dict[str, Any]]:
        """Events, one document each, until the server ends them.

        Raises ApiError, at once where the server refuses.
        """
        asked = {**query, "watch": "1", "timeoutSeconds": str(seconds)}
        connection = self._open = self._connection(seconds + CALL_SECONDS)
        try:
            return self._events(connection, self._answer(connection, path, asked))
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
            raise ApiError(0, f"the watch was cut: {error}") from None
        finally:
            self._close(connection)

    def _close(self, connection: http.client.HTTPSConnection) -> None:
        self._open = None
        connection.close()

    def interrupt(self) -> None:
        """End the watch that is under way, and any later one; from another thread."""
        self._is_interrupted = True
        connection = self._open
        plug = connection.sock if connection is not None else None
        if plug is not None:  # asked for once: the watching thread may close it meanwhile
            with suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)

    def _connection(self, timeout_seconds: float) -> http.client.HTTPSConnection:
        try:
            context = self._context()
        except OSError as error:
            raise ApiError(0, f"{self._authorities}: {error.strerror or error}") from None
        return _KeepaliveConnection(
            self._host, self._port, timeout=timeout_seconds, context=context
        )

    def _context(self) -> ssl.SSLContext:
        """Trust in the CA of the service account, as kubectl and client-go verify it.

        Python 3.13 sets VERIFY_X509_STRICT by default, which rejects a CA without the extensions
        keyUsage or authorityKeyIdentifier, as many clusters have; RFC 5280 requires them and Go
        does not. Every certificate in the file is an anchor, an intermediate one too: so in Go, and
        by default from Python 3.13 on. All other checks stay. Raises OSError.
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
                float(wait) if wait.isascii() and wait.isdecimal() else 0.0,
            )
        return answer


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        body = answer.read(ANSWER_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise ApiError(0, f"the answer broke off: {error}") from None
    if len(body) > ANSWER_BYTES:
        raise ApiError(0, f"the answer is longer than {ANSWER_BYTES >> 20} MiB")
    return body


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ApiError(0, f"the answer is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise ApiError(0, "the answer is no JSON object")
    return document


def _error_message(status: int, body: bytes) -> str:
    """The server's own message, one line of it."""
    try:
        message = str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError, RecursionError):
        message = ""
    line = " ".join(message.split())[:200]
    return f"{status} {http.client.responses.get(status, '')}: {line}".rstrip(": ")
