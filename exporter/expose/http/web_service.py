"""The web thread: TCP listeners and agent socket, one event loop, orderly shutdown."""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.expose.api.agent_api import AgentApi
from exporter.expose.api.read_api import ReadApi
from exporter.expose.exposition import SnapshotPublisher
from exporter.expose.http.bounded_executor import BoundedExecutor, TickCache
from exporter.expose.http.http1 import HttpRequest, HttpResponse
from exporter.expose.http.listeners import BACKLOG, listen_tcp, listen_unix
from exporter.expose.http.routes import Router
from exporter.expose.http.server import DEFAULT_LIMITS, HttpServer, ServerLimits
from exporter.expose.page.handlers import PageHandlers
from exporter.expose.page.layout import METRICS_PATH
from exporter.expose.page.power_history import PowerHistory
from exporter.expose.web_config.middleware import PROBE_PATHS, WebConfigMiddleware
from exporter.expose.web_config.store import WebConfigStore
from exporter.model.commands import CommandRequest
from exporter.model.record import AddInner, Form, RunArchive
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)

MAX_PENDING_QUERIES, MAX_PENDING_OF_CLIENT = 16, 8
"""Limits of waiting ledger queries, user name lookups and pages, in all and of one client."""
ACCEPT_BATCH = 2
"""New connections accepted before existing connections are served."""
LOG_INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND
"""Minimum time between two log messages of the same kind."""


class WebService:
    """Serves published ticks over TCP, and accepts runs on the agent socket.

    Call `bind`, then `run` in a thread of its own; `stop` from any thread.
    """

    def __init__(
        self,
        *,
        publisher: SnapshotPublisher,
        archive: RunArchive,
        submit: Callable[[CommandRequest], None],
        forms: Mapping[str, Form],
        clock: Clock,
        listen_address: str,
        socket_path: str,
        telemetry_path: str = METRICS_PATH,
        web_config: WebConfigStore | None = None,
        limits: ServerLimits = DEFAULT_LIMITS,
        grace_seconds: float = 2.0,
        add_inner: AddInner | None = None,
    ) -> None:
        """`forms` are the formats of receipts, `web_config` controls access over TCP.

        `add_inner` adds the sums of inner runs to the records of receipts.

        An empty `listen_address` disables TCP, an empty `socket_path` disables the agent socket.
        """
        limits = _limit_to_open_files(limits)
        queries, names, pages = self._executors = [
            BoundedExecutor(
                name,
                threads=threads,
                most=MAX_PENDING_QUERIES,
                most_of_client=MAX_PENDING_OF_CLIENT,
            )
            for name, threads in (("ledger queries", 2), ("user name lookups", 1), ("pages", 1))
        ]
        rendered = TickCache(pages)
        api = ReadApi(publisher, archive, queries, rendered)
        page_handlers = PageHandlers(
            api, PowerHistory(archive, queries), rendered, pages, forms, telemetry_path, add_inner
        )
        self._routes = Router(publisher, api, rendered, page_handlers, clock, telemetry_path)
        self._agent = AgentApi(api, submit, names, clock)
        self._gate = WebConfigMiddleware(
            web_config or WebConfigStore("", clock), self._routes.answer
        )
        self._server = HttpServer(clock, limits)
        self._listen_address = listen_address
        self._socket_path = socket_path
        self._limits = limits
        self._grace_seconds = grace_seconds
        self._tcp: list[socket.socket] = []
        self._unix: list[socket.socket] = []
        self._clock = clock
        self._logged_ns = -LOG_INTERVAL_NS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def bind(self) -> list[tuple[str, int]]:
        """Open the listeners and return their hosts and ports; clients may connect from then on.

        Raises ConfigError.
        """
        if self._listen_address:
            self._tcp = listen_tcp(self._listen_address)
        try:
            if self._socket_path:
                self._unix = [listen_unix(self._socket_path)]
        except ConfigError:
            for listener in self._tcp:
                listener.close()
            raise
        self._loop = asyncio.new_event_loop()
        return [listener.getsockname()[:2] for listener in self._tcp]

    def run(self) -> None:
        """Serve until `stop`. Requires `bind` first."""
        loop = self._loop
        assert loop is not None, "bind must be called before run"
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()

    def stop(self) -> None:
        """Close the listeners, complete responses in progress, and make `run` return."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the event loop is closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _log_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log an error of the event loop; for a lack of file descriptors, rate-limited."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._logged_ns >= LOG_INTERVAL_NS:
            self._logged_ns = now_ns
            log.error(
                "cannot accept connections; raise the limit (ulimit -n, LimitNOFILE= of systemd)",
                extra={"error": error.strerror},
            )

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._log_loop_error)
        head = self._limits.head_bytes
        public = partial(self._server.handle_connection, self._gate.answer, self._gate.tls_endpoint)
        agents = partial(self._server.handle_connection, self._answer_agent, lambda: None)
        listeners = [
            *[
                await asyncio.start_server(public, sock=sock, limit=head, backlog=ACCEPT_BATCH)
                for sock in self._tcp
            ],
            *[
                await asyncio.start_unix_server(agents, sock=sock, limit=head, backlog=ACCEPT_BATCH)
                for sock in self._unix
            ],
        ]
        for sock in (*self._tcp, *self._unix):
            sock.listen(BACKLOG)  # asyncio uses its backlog argument for both
        await self._stopping.wait()
        for listener in listeners:
            listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._socket_path)
        await self._server.close(self._grace_seconds)
        self._gate.close()
        for executor in self._executors:
            executor.close()

    async def _answer_agent(self, request: HttpRequest) -> HttpResponse:
        """Handle a request on the agent socket; probes need neither TLS nor a password there."""
        is_probe = request.path in PROBE_PATHS
        return await (self._routes.answer(request) if is_probe else self._agent.answer(request))


def _limit_to_open_files(limits: ServerLimits) -> ServerLimits:
    """Reduce the limits if few files may be open: at least half of them are not for clients."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files // 2 >= limits.connections:
        return limits
    connections = files // 2
    log.warning(
        "connection limit reduced, since too few files may be open; "
        "raise the limit (ulimit -n, LimitNOFILE= of systemd)",
        extra={
            "open_files": files,
            "connections": connections,
            "configured": limits.connections,
        },
    )
    return limits._replace(connections=connections, refusals=min(limits.refusals, files // 16))
