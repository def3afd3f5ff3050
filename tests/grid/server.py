"""An HTTP server that answers as sources of grid intensity do by `shapes`, or fails on order.

Each source has one function that makes the answer for a path and a query.
"""

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Asked:
    """One request as it came."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        self.headers = {name.lower(): value for name, value in handler.headers.items()}


Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


def document(value: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps(value).encode()


class GridServer:
    """Answers with what `serve` makes of a request, which may be replaced at any time."""

    def __init__(
        self, serve: Callable[[Asked], Answer], certificate: tuple[str, str] | None = None
    ) -> None:
        """With a `certificate` and its key it speaks TLS, as `localhost`."""
        self.serve = serve
        self.asked: list[Asked] = []
        self.hang_seconds = 0.0
        self.linger_seconds = 0.0
        self._ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = Asked(self)
                outer.asked.append(asked)
                outer._ended.wait(outer.hang_seconds)
                status, headers, body = outer.serve(asked)
                try:
                    self.send_response(status)
                    length = headers.get("Content-Length", str(len(body)))
                    for name, value in {**headers, "Content-Length": length}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(body)
                    outer._ended.wait(outer.linger_seconds)
                except ConnectionError:
                    pass

            do_PUT = do_GET  # noqa: N815  the name that the base class looks for
            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.url = f"https://localhost:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Be gone; connections are refused from now on, and none is kept waiting."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
