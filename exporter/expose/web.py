"""The web thread: listeners for the world and for agents, one event loop, an orderly end."""

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from exporter.clock import Clock
from exporter.errors import ConfigError
from exporter.expose.agent import Agent
from exporter.expose.api import Api
from exporter.expose.board import Board
from exporter.expose.listen import listen_tcp, listen_unix
from exporter.expose.routes import Routes
from exporter.expose.server import DEFAULT_LIMITS, Limits, Server
from exporter.model.commands import Request
from exporter.model.record import Archive

BLOCKING_THREADS = 2
"""For what may wait for a disk or a directory of users."""


class Web:
    """Serves what is on the board over TCP, and takes runs over the agent socket.

    `bind`, then `run` in a thread of its own, `stop` from any thread.
    """

    def __init__(
        self,
        *,
        board: Board,
        archive: Archive,
        submit: Callable[[Request], None],
        clock: Clock,
        listen_address: str,
        socket_path: str,
        limits: Limits = DEFAULT_LIMITS,
        grace_seconds: float = 2.0,
    ) -> None:
        """An empty `listen_address` means no TCP, an empty `socket_path` no agent socket."""
        api = Api(board, archive)
        routes = Routes(board, api, clock)
        agent = Agent(api, submit, clock)
        self._world = Server(routes.answer, clock, limits)
        self._agents = Server(agent.answer, clock, limits)
        self._listen_address = listen_address
        self._socket_path = socket_path
        self._limits = limits
        self._grace_seconds = grace_seconds
        self._tcp: list[socket.socket] = []
        self._unix: list[socket.socket] = []
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
            loop.run_until_complete(self._serve(loop))
        finally:
            loop.close()

    def stop(self) -> None:
        """Close the listeners, let answers under way be finished, and make `run` return."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        executor = ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="web-blocking")
        loop.set_default_executor(executor)
        head = self._limits.head_bytes
        listeners: list[asyncio.Server] = []
        for sock in self._tcp:
            world = self._world.connected
            listeners.append(await asyncio.start_server(world, sock=sock, limit=head))
        for sock in self._unix:
            agents = self._agents.connected
            listeners.append(await asyncio.start_unix_server(agents, sock=sock, limit=head))
        await self._stopping.wait()
        for listener in listeners:
            listener.close()
        with suppress(FileNotFoundError):
            os.unlink(self._socket_path)
        await asyncio.gather(
            self._world.close(self._grace_seconds), self._agents.close(self._grace_seconds)
        )
        # a thread that hangs on a disk is left alone, not waited for
        executor.shutdown(wait=False, cancel_futures=True)
