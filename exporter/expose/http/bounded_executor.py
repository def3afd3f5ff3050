"""Work that other threads do for the web thread: what may wait for a disk, and what takes long."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from exporter.errors import RequestRefused
from exporter.expose.exposition import PublishedTick

log = logging.getLogger(__name__)

T = TypeVar("T")


class BoundedExecutor:
    """Takes work for `threads` threads, and no more than `most` pieces that are not done.

    Work that nobody waits for any more still counts until it is done, so what hangs on a disk
    cannot pile up. `name` says in refusals what the work is.
    """

    def __init__(self, name: str, *, threads: int, most: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"web {name}")
        self._most = most
        self._open: set[asyncio.Future[Any]] = set()

    @property
    def is_full(self) -> bool:
        """Whether it would take no more now."""
        return len(self._open) >= self._most

    def submit(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """What `work` will answer or raise. Raises Refused(503) if there is too much to do."""
        if self.is_full:
            raise RequestRefused(503, f"{self._most} {self._name} wait already; try again later")
        done = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._open.add(done)
        done.add_done_callback(self._finished)
        return done

    def submit_detached(self, work: Callable[[], object]) -> None:
        """Have work done that nobody waits for; what it raises is logged. Raises Refused(503)."""
        self.submit(work).add_done_callback(self._log_failure)

    async def run(self, work: Callable[[], T], patience_seconds: float) -> T:
        """What `work` answers or raises. Raises Refused(503), and TimeoutError after a while."""
        async with asyncio.timeout(patience_seconds):
            return await asyncio.shield(self.submit(work))

    def close(self) -> None:
        """Take no more; a thread that hangs on a disk is left alone, not waited for."""
        idle = not self._open
        for work in self._open:
            work.cancel()
        self._executor.shutdown(wait=idle, cancel_futures=True)

    def _log_failure(self, done: "asyncio.Future[object]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("%s failed", self._name, exc_info=error)

    def _finished(self, done: "asyncio.Future[Any]") -> None:
        self._open.discard(done)
        if not done.cancelled():
            done.exception()  # looked at here, in case that nobody waits for it any more


class TickCache:
    """What is made of a tick when it is first asked for, and then shared by all who ask."""

    def __init__(self, desk: BoundedExecutor) -> None:
        self._desk = desk
        self._tick: PublishedTick | None = None
        self._made: dict[str, asyncio.Future[bytes]] = {}

    async def get(self, tick: PublishedTick, name: str, make: Callable[[], bytes]) -> bytes:
        """What `make` makes of `tick`, kept under `name`. Raises Refused(503)."""
        if tick is not self._tick:
            self._tick, self._made = tick, {}
        if name not in self._made:
            self._made[name] = self._desk.submit(make)
        return await asyncio.shield(self._made[name])
