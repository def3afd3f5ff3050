"""Thread pools for work that the web thread must not do itself: disk access and rendering."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

from exporter.errors import RequestRefused
from exporter.expose.exposition import PublishedTick

log = logging.getLogger(__name__)

T = TypeVar("T")

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""The client whose connection the current task serves: its address, or the user of a process."""


class BoundedExecutor:
    """Executes work in `threads` threads, with at most `most` unfinished pieces of work.

    Of these, one client has at most `most_of_client`, so that it cannot keep all others waiting.
    Work whose caller has given up counts until it is finished, so that work that hangs on a disk
    cannot pile up. `name` names the work in errors.
    """

    def __init__(
        self, name: str, *, threads: int, most: int, most_of_client: int | None = None
    ) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"web {name}")
        self._most = most
        self._most_of_client = most_of_client or most
        self._open: dict[asyncio.Future[Any], str] = {}
        """The client of each unfinished piece of work."""

    @property
    def is_full(self) -> bool:
        """Whether the limit of unfinished work is reached."""
        return len(self._open) >= self._most

    def submit(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Submit work and return its future.

        Raises RequestRefused(503) if too much work is waiting, in all or of the current client.
        """
        client = CLIENT.get()
        of_client = list(self._open.values()).count(client)
        for waiting, most, whose in (
            (len(self._open), self._most, ""),
            (of_client, self._most_of_client, " of this client"),
        ):
            if waiting >= most:
                raise RequestRefused(
                    503, f"too many {self._name}{whose} are waiting (limit {most}); try again later"
                )
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._open[future] = client
        future.add_done_callback(self._finished)
        return future

    def submit_detached(self, work: Callable[[], object]) -> None:
        """Submit work without waiting; exceptions are logged. Raises RequestRefused(503)."""
        self.submit(work).add_done_callback(self._log_failure)

    async def run(self, work: Callable[[], T], timeout_seconds: float) -> T:
        """Execute work and return its result. Raises RequestRefused(503) and TimeoutError."""
        async with asyncio.timeout(timeout_seconds):
            return await asyncio.shield(self.submit(work))

    def close(self) -> None:
        """Shut down; a thread that hangs on a disk is not waited for."""
        idle = not self._open
        for work in self._open:
            work.cancel()
        self._executor.shutdown(wait=idle, cancel_futures=True)

    def _log_failure(self, future: "asyncio.Future[object]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("background work failed", exc_info=error, extra={"queue": self._name})

    def _finished(self, future: "asyncio.Future[Any]") -> None:
        del self._open[future]
        if not future.cancelled():
            future.exception()  # mark as retrieved, in case no caller waits for the result any more


class TickCache:
    """Results computed at most once per published tick and shared by all requests."""

    def __init__(self, executor: BoundedExecutor) -> None:
        self._pages = executor
        self._tick: PublishedTick | None = None
        self._results: dict[str, asyncio.Future[bytes]] = {}

    async def get(self, tick: PublishedTick, name: str, make: Callable[[], bytes]) -> bytes:
        """Return the result of `make` for this tick, cached by name. Raises RequestRefused(503)."""
        if tick is not self._tick:
            self._tick, self._results = tick, {}
        if name not in self._results:
            self._results[name] = self._pages.submit(make)
        return await asyncio.shield(self._results[name])
