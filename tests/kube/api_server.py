"""A Kubernetes API server, in this process: TLS, tokens, lists by pages, watches, refusals."""

import json
import queue
import shutil
import ssl
import threading
import urllib.parse
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import COMPLETE, Authority

TOKEN = "the-token"
CLAIMS = "/apis/resource.k8s.io/v1/namespaces/"


def described(
    uid: str,
    name: str,
    namespace: str = "default",
    *,
    node: str = "node-1",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    owner: tuple[str, str] | None = None,
    phase: str = "Running",
    containers: tuple[str, ...] = ("main",),
    created: str = "2026-01-01T00:00:00Z",
    started: str = "",
) -> dict[str, Any]:
    """A pod as the server describes it."""
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    variables.append({"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})
    owners = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    return {
        "metadata": {
            "uid": uid,
            "name": name,
            "namespace": namespace,
            "labels": labels or {},
            "annotations": annotations or {},
            "ownerReferences": owners,
            "creationTimestamp": created,
            "resourceVersion": "1",
        },
        "spec": {
            "nodeName": node,
            "containers": [{"name": each, "env": variables} for each in containers],
        },
        "status": {"phase": phase, **({"startTime": started} if started else {})},
    }


class FakeApiServer:
    """`pods` are what a list gives; `tell` sends an event to whoever watches."""

    def __init__(self, directory: Path, extensions: Sequence[str] = COMPLETE) -> None:
        self.account = directory / "account"
        self.account.mkdir(parents=True)
        self._directory = directory
        self._authorities = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certify(extensions)
        (self.account / "token").write_text(TOKEN + "\n")
        self.pods: list[dict[str, Any]] = []
        self.slices: dict[str, list[dict[str, Any]]] = {}
        """Resource slices by API version; a version that is not there is not served."""
        self.claims: dict[str, dict[str, Any]] = {}
        """Resource claims of version v1 by namespace and name."""
        self.status = 0
        """What every request is refused with; 0: none is."""
        self.watch_status = 0
        """The same of watches alone."""
        self.forbidden = ""
        """The end of a path that is refused with 403; "": none is."""
        self.retry_after = ""
        self.page = 500
        self.requests: list[str] = []
        self.watches = 0
        """Watches that were begun."""
        self._watchers: list[queue.SimpleQueue[bytes | None]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.socket = self._context.wrap_socket(self._http.socket, server_side=True)
        self.port = str(self._http.server_address[1])
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def certify(self, extensions: Sequence[str] = COMPLETE, root: Authority | None = None) -> None:
        """Serve a certificate of a new CA from now on, whose own has these extensions.

        The account has its CA as the kubelet projects a ConfigMap: by symbolic links, of which
        `..data` is replaced.
        """
        self._authorities += 1
        authority = Authority(
            self._directory / f"authority-{self._authorities}", "kubernetes", extensions, root
        )
        self._context.load_cert_chain(*authority.sign("kube-apiserver", "DNS:localhost"))
        version = self.account / f"..version-{self._authorities}"
        version.mkdir()
        shutil.copy(authority.path, version / "ca.crt")
        link = self.account / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.account / "..data")
        if self._authorities == 1:
            (self.account / "ca.crt").symlink_to("..data/ca.crt")

    def tell(self, kind: str, item: dict[str, Any]) -> None:
        """An event for all who watch."""
        self._send(json.dumps({"type": kind, "object": item}).encode() + b"\n")

    def cut(self) -> None:
        """End all watches."""
        self._send(None)

    def stop(self) -> None:
        self.cut()
        self._http.shutdown()
        self._http.server_close()

    def _send(self, line: bytes | None) -> None:
        for watcher in list(self._watchers):
            watcher.put(line)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urllib.parse.urlsplit(request.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        self.requests.append(request.path)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(request, 401, "Unauthorized")
        elif self.status:
            self._refuse(request, self.status, "as the test wants it")
        elif self.forbidden and parts.path.endswith(self.forbidden):
            self._refuse(request, 403, "as the test wants it")
        elif self.watch_status and "watch" in query:
            self._refuse(request, self.watch_status, "as the test wants it")
        elif parts.path == "/api/v1/pods" and "watch" in query:
            self._watch(request)
        elif parts.path == "/api/v1/pods":
            self._list(request, query)
        elif parts.path.endswith("/resourceslices") and parts.path.split("/")[3] in self.slices:
            self._write(request, {"items": self.slices[parts.path.split("/")[3]], "metadata": {}})
        elif (name := parts.path.removeprefix(CLAIMS).replace("/resourceclaims/", "/")) in (
            self.claims
        ):
            self._write(request, self.claims[name])
        else:
            self._refuse(request, 404, "the server could not find the requested resource")

    def _list(self, request: BaseHTTPRequestHandler, query: dict[str, str]) -> None:
        first = int(query.get("continue", 0))
        page = self.pods[first : first + self.page]
        meta: dict[str, str] = {"resourceVersion": "7"}
        if first + self.page < len(self.pods):
            meta["continue"] = str(first + self.page)
        self._write(request, {"kind": "PodList", "metadata": meta, "items": page})

    def _watch(self, request: BaseHTTPRequestHandler) -> None:
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        self._watchers.append(lines)
        self.watches += 1
        try:
            while (line := lines.get()) is not None:
                request.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            request.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass
        finally:
            self._watchers.remove(lines)

    def _write(self, request: BaseHTTPRequestHandler, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, message: str) -> None:
        body = json.dumps({"kind": "Status", "message": message, "code": status}).encode()
        request.send_response(status)
        if self.retry_after:
            request.send_header("Retry-After", self.retry_after)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
