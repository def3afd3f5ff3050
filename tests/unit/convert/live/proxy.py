"""A small HTTP proxy: it passes requests on, makes tunnels, and remembers for whom."""

import select
import socket
import socketserver
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit


class Proxy:
    """Every name leads to 127.0.0.1; the port stays."""

    def __init__(self):
        self.passed = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.passed.append(self.path)
                parts = urlsplit(self.path)
                there = f"http://127.0.0.1:{parts.port}{parts.path}"
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(there, timeout=5) as answer:
                    body = answer.read()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def do_CONNECT(self):
                outer.passed.append(self.path)
                port = int(self.path.rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port), 5) as there:
                    self.send_response(200)
                    self.end_headers()
                    ends = {there: self.connection, self.connection: there}
                    while True:
                        ready, _, _ = select.select(list(ends), [], [], 5)
                        pieces = [(ends[end], end.recv(65_536)) for end in ready]
                        if not all(piece for _, piece in pieces) or not ready:
                            return
                        for end, piece in pieces:
                            end.sendall(piece)

            def log_message(self, *_):
                pass

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
