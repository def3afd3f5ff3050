"""The agent API on the UNIX socket: local programs register, update and end their runs.

The kernel's peer credentials identify the caller; request bodies name no process.
"""

import asyncio
import pwd
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.expose.api.read_api import ReadApi
from exporter.expose.api.request_bodies import (
    parse_end,
    parse_import,
    parse_log,
    parse_start,
    validate_text,
)
from exporter.expose.http.bounded_executor import BoundedExecutor
from exporter.expose.http.http1 import (
    READ_METHODS,
    HttpRequest,
    HttpResponse,
    PeerCredentials,
    json_response,
    method_not_allowed,
    path_child,
)
from exporter.model import commands
from exporter.model.commands import Command, EndRun, ImportResult, StartRun
from exporter.model.record import RunRecord
from exporter.model.record_document import record_to_json
from exporter.units import NANOSECONDS_PER_SECOND

RUNS_PATH = "/v1/runs"
INTENSITY_PATH = "/v1/intensity"
IMPORT_PATH = "/v1/history"
LEDGER_PATH = "/v1/ledger"
END_SUFFIX = "/end"
LOG_SUFFIX = "/log"
RUNS_METHODS = (*READ_METHODS, "POST")
POST_ONLY = ("POST",)
ANSWER_TIMEOUT_SECONDS = 5.0
REQUESTS_PER_SECOND = 50
"""Requests that one user may send per second."""
IMPORTS_PER_SECOND = 20
"""Lower, since each import has many runs and is one transaction of the ledger."""


class AgentApi:
    """Passes commands of peers to the loop and returns the results."""

    def __init__(
        self,
        api: ReadApi,
        submit: Callable[[commands.CommandRequest], None],
        names: BoundedExecutor,
        clock: Clock,
    ) -> None:
        """`names` executes lookups of user names."""
        self._api = api
        self._submit = submit
        self._names = names
        self._limiter = UserRateLimiter(clock, REQUESTS_PER_SECOND)
        self._import_limiter = UserRateLimiter(clock, IMPORTS_PER_SECOND)

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """Handle any request on the agent socket. Raises RequestRefused."""
        path, method = request.path, request.method
        if path == RUNS_PATH and method == "POST":
            return await self._start(request)
        if path == IMPORT_PATH:
            return (
                await self._import(request) if method == "POST" else method_not_allowed(POST_ONLY)
            )
        if path in (INTENSITY_PATH, LEDGER_PATH):
            return (
                await self._read(path)
                if method in READ_METHODS
                else method_not_allowed(READ_METHODS)
            )
        if path == RUNS_PATH:
            return (
                await self._api.runs(request.query)
                if method in READ_METHODS
                else method_not_allowed(RUNS_METHODS)
            )
        for suffix, handler in ((END_SUFFIX, self._end), (LOG_SUFFIX, self._log)):
            if (
                path.endswith(suffix)
                and (run_id := path_child(path.removesuffix(suffix), RUNS_PATH)) is not None
            ):
                return (
                    await handler(run_id, request)
                    if method == "POST"
                    else method_not_allowed(POST_ONLY)
                )
        if (run_id := path_child(path, RUNS_PATH)) is None:
            raise RequestRefused(
                404,
                f"unknown path {path}; known paths are {RUNS_PATH}, {INTENSITY_PATH}, "
                f"{LEDGER_PATH}, {IMPORT_PATH}",
            )
        return (
            await self._api.run(run_id, request.query)
            if method in READ_METHODS
            else method_not_allowed(READ_METHODS)
        )

    async def _read(self, path: str) -> HttpResponse:
        return self._api.intensity() if path == INTENSITY_PATH else await self._api.ledger()

    async def _start(self, request: HttpRequest) -> HttpResponse:
        peer = self._admit(request)
        run = parse_start(request.body)
        if peer.pid == 0:
            raise RequestRefused(
                409,
                "the daemon cannot see your process: it runs in another pid namespace. Share "
                "that of the host (hostPID), or set the run id by the environment variable "
                "EMISSIONS_RUN_ID or an annotation",
            )
        user = await self._user_name(peer.uid)
        run = run._replace(key=run.key._replace(uid=peer.uid), user=user)
        command = StartRun(peer.pid, run)
        return json_response(record_to_json(await self._run_command(command)), 201)

    async def _end(self, run_id: str, request: HttpRequest) -> HttpResponse:
        peer = self._admit(request)
        job_id = parse_end(request.body)
        command = EndRun(peer.uid, validate_text("run_id", run_id), job_id, pid=peer.pid)
        return json_response(record_to_json(await self._run_command(command)))

    async def _log(self, run_id: str, request: HttpRequest) -> HttpResponse:
        peer = self._admit(request)
        log_run = parse_log(request.body)
        command = log_run._replace(
            uid=peer.uid, run_id=validate_text("run_id", run_id), pid=peer.pid
        )
        return json_response(record_to_json(await self._run_command(command)))

    async def _import(self, request: HttpRequest) -> HttpResponse:
        peer = self._admit(request)
        self._import_limiter.take(peer.uid)
        user = await self._user_name(peer.uid) or str(peer.uid)
        answer = await self._submit_command(parse_import(request.body, user))
        assert isinstance(answer, ImportResult)
        return json_response(answer._asdict())

    def _admit(self, request: HttpRequest) -> PeerCredentials:
        assert request.peer is not None, "the agent API listens on UNIX sockets only"
        self._limiter.take(request.peer.uid)
        return request.peer

    async def _user_name(self, uid: int) -> str:
        """Return the user's name; the uid if it has no name, "" if the lookup failed."""
        try:
            return (
                await self._names.run(partial(pwd.getpwuid, uid), ANSWER_TIMEOUT_SECONDS)
            ).pw_name
        except KeyError:
            return str(uid)
        except (TimeoutError, RequestRefused):
            return ""

    async def _run_command(self, command: Command) -> RunRecord:
        """Execute a command and return the record of its run. Raises RequestRefused."""
        answer = await self._submit_command(command)
        assert isinstance(answer, RunRecord)
        return answer

    async def _submit_command(self, command: Command) -> object:
        """Execute a command in the loop and return its result. Raises RequestRefused."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[object] = loop.create_future()

        def settle(answer: object) -> None:
            if not answered.done():
                answered.set_result(answer)

        def on_answer(answer: object) -> None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(settle, answer)

        self._submit(commands.CommandRequest(command, on_answer))
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                answer = await answered
        except TimeoutError:
            raise RequestRefused(
                503,
                f"the daemon did not respond within {ANSWER_TIMEOUT_SECONDS:g} s; "
                f"the command may still be executed; check with GET {RUNS_PATH}",
            ) from None
        if isinstance(answer, RequestRefused):
            raise answer
        return answer


class UserRateLimiter:
    """Limits the requests per user and second."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._second = 0
        self._counts: dict[int, int] = {}

    def take(self, uid: int) -> None:
        """Count one request. Raises RequestRefused(429)."""
        second = self._clock.monotonic_ns() // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts.get(uid, 0)
        if count >= self._per_second:
            raise RequestRefused(
                429,
                f"more than {self._per_second} requests per second from this user; try again in a "
                "second",
            )
        self._counts[uid] = count + 1
