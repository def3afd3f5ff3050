"""The web thread: listeners for the world and for agents, one event loop, an orderly end."""

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
from exporter.model.record import Form, RunArchive
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)

MAX_PENDING_QUERIES = 16
"""Questions to the ledger, or to the directory of users, that may wait at once."""
ACCEPT_BATCH = 2
"""Newcomers that are let in before those who are there get their turn."""
LOG_INTERVAL_NS = 60 * NANOSECONDS_PER_SECOND
"""Between two complaints of one kind."""
FILES_REMEDY = "raise the limit (ulimit -n, LimitNOFILE= of systemd)"


class WebService:
    """Serves what is on the board over TCP, and takes runs over the agent socket.

    `bind`, then `run` in a thread of its own, `stop` from any thread.
    """

    def __init__(
        self,
        *,
        board: SnapshotPublisher,
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
    ) -> None:
        """`forms` are what a receipt can be written in, `web_config` who may ask over TCP.

        An empty `listen_address` means no TCP, an empty `socket_path` no agent socket.
        """
        limits = _limit_to_open_files(limits)
        questions = BoundedExecutor("questions to the ledger", threads=2, most=MAX_PENDING_QUERIES)
        names = BoundedExecutor("questions for user names", threads=1, most=MAX_PENDING_QUERIES)
        pages = BoundedExecutor("pages", threads=1, most=MAX_PENDING_QUERIES)
        self._desks = (questions, names, pages)
        rendered = TickCache(pages)
        api = ReadApi(board, archive, questions, rendered)
        people = PageHandlers(
            api, PowerHistory(archive, questions), rendered, pages, forms, telemetry_path
        )
        self._routes = Router(board, api, rendered, people, clock, telemetry_path)
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
        self._complained_ns = -LOG_INTERVAL_NS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def bind(self) -> list[tuple[str, int]]:
        """Open the listeners, and say at which hosts and ports; clients may connect from here on.

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
        """Serve until `stop`. Needs `bind` first."""
        loop = self._loop
        assert loop is not None, "bind comes before run"
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()

    def stop(self) -> None:
        """Close the listeners, let answers under way be finished, and make `run` return."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _complain(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say what went wrong in the event loop; that no file is left, not at every try."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(context)
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._complained_ns >= LOG_INTERVAL_NS:
            self._complained_ns = now_ns
            log.error("clients wait: %s; %s", error.strerror, FILES_REMEDY)

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._complain)
        head = self._limits.head_bytes
        world = partial(self._server.handle_connection, self._gate.answer, self._gate.tls_endpoint)
        agents = partial(self._server.handle_connection, self._answer_agent, lambda: None)
        listeners = [
            *[
                await asyncio.start_server(world, sock=sock, limit=head, backlog=ACCEPT_BATCH)
                for sock in self._tcp
            ],
            *[
                await asyncio.start_unix_server(agents, sock=sock, limit=head, backlog=ACCEPT_BATCH)
                for sock in self._unix
            ],
        ]
        for sock in (*self._tcp, *self._unix):
            sock.listen(BACKLOG)  # asyncio takes its number for both
        await self._stopping.wait()
        for listener in listeners:
            listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._socket_path)
        await self._server.close(self._grace_seconds)
        self._gate.close()
        for desk in self._desks:
            desk.close()

    async def _answer_agent(self, request: HttpRequest) -> HttpResponse:
        """The agent socket answers probes too: there neither TLS nor a password is in the way."""
        probed = request.path in PROBE_PATHS
        return await (self._routes.answer(request) if probed else self._agent.answer(request))


def _limit_to_open_files(limits: ServerLimits) -> ServerLimits:
    """The limits where few files may be open: at least half of them are not for clients."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files // 2 >= limits.connections:
        return limits
    connections = files // 2
    log.warning(
        "only %d files may be open, so %d connections are taken instead of %d; %s",
        *(files, connections, limits.connections, FILES_REMEDY),
    )
    return limits._replace(connections=connections, refusals=min(limits.refusals, files // 16))
