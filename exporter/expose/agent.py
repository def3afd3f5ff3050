"""The agent socket: programs of this machine register their runs and end them.

Who asks is what the kernel says of the peer; a body names no process.
"""

import asyncio
import json
import math
import pwd
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exporter.clock import Clock
from exporter.errors import Refused
from exporter.expose.api import Api
from exporter.expose.http1 import (
    READ,
    Peer,
    Request,
    Response,
    child,
    json_response,
    not_allowed,
)
from exporter.model import commands
from exporter.model.commands import Command, End, Start
from exporter.model.record import RunRecord, to_json
from exporter.units import NANOSECONDS_PER_SECOND

RUNS = "/v1/runs"
END = "/end"
LISTED = (*READ, "POST")
ENDED = ("POST",)
ANSWER_SECONDS = 5.0
PER_SECOND = 50
"""Registrations and ends that one user may ask for in a second."""
TEXT_BYTES = 1024
LABELS = 32
SCOPES = ("tree", "cgroup")
START_KEYS = ("run_id", "job_id", "name", "labels", "scope", "budget_grams")


class Agent:
    """Hands what peers ask for to the loop, and its answers back."""

    def __init__(self, api: Api, submit: Callable[[commands.Request], None], clock: Clock) -> None:
        self._api = api
        self._submit = submit
        self._allowance = Allowance(clock, PER_SECOND)

    async def answer(self, request: Request) -> Response:
        """The answer to any request on the agent socket. Raises Refused."""
        path, method = request.path, request.method
        if path == RUNS and method == "POST":
            return await self._start(request)
        if path == RUNS:
            return await self._api.runs(request.query) if method in READ else not_allowed(LISTED)
        if path.endswith(END) and (run_id := child(path.removesuffix(END), RUNS)) is not None:
            return await self._end(run_id, request) if method == "POST" else not_allowed(ENDED)
        if (run_id := child(path, RUNS)) is None:
            raise Refused(404, f"there is nothing at {path}; runs are at {RUNS}")
        return await self._api.run(run_id, request.query) if method in READ else not_allowed(READ)

    async def _start(self, request: Request) -> Response:
        peer = self._admit(request)
        wanted = parse_start(request.body)
        if peer.pid == 0:
            raise Refused(
                409,
                "the daemon cannot see your process: it runs in another pid namespace. Share the "
                "host's (hostPID), or name the run by the environment variable EMISSIONS_RUN_ID "
                "or an annotation",
            )
        command = wanted._replace(uid=peer.uid, pid=peer.pid, user=await _user_name(peer.uid))
        return json_response(to_json(await self._obtain(command)), 201)

    async def _end(self, run_id: str, request: Request) -> Response:
        peer = self._admit(request)
        command = End(peer.uid, run_id, parse_end(request.body))
        return json_response(to_json(await self._obtain(command)))

    def _admit(self, request: Request) -> Peer:
        assert request.peer is not None, "the agent listens on UNIX sockets alone"
        self._allowance.take(request.peer.uid)
        return request.peer

    async def _obtain(self, command: Command) -> RunRecord:
        """The loop's answer to a command. Raises Refused."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[object] = loop.create_future()

        def settle(answer: object) -> None:
            if not answered.done():
                answered.set_result(answer)

        def on_answer(answer: object) -> None:
            with suppress(RuntimeError):  # too late: nobody listens any more
                loop.call_soon_threadsafe(settle, answer)

        self._submit(commands.Request(command, on_answer))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await answered
        except TimeoutError:
            raise Refused(
                503,
                f"the daemon was too busy to answer in {ANSWER_SECONDS:g} s; GET {RUNS} says "
                "whether it was done",
            ) from None
        if isinstance(answer, Refused):
            raise answer
        assert isinstance(answer, RunRecord)
        return answer


class Allowance:
    """How often each user may ask, counted anew every second."""

    def __init__(self, clock: Clock, per_second: int) -> None:
        self._clock = clock
        self._per_second = per_second
        self._second = 0
        self._taken: dict[int, int] = {}

    def take(self, uid: int) -> None:
        """Count one. Raises Refused(429)."""
        second = self._clock.monotonic_ns() // NANOSECONDS_PER_SECOND
        if second != self._second:
            self._second = second
            self._taken.clear()
        taken = self._taken.get(uid, 0)
        if taken >= self._per_second:
            raise Refused(429, f"at most {self._per_second} requests a second are taken per user")
        self._taken[uid] = taken + 1


async def _user_name(uid: int) -> str:
    """The user's name; the number where the directory of users has none or does not answer."""
    lookup = asyncio.get_running_loop().run_in_executor(None, pwd.getpwuid, uid)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return (await lookup).pw_name
    except (KeyError, TimeoutError):
        return str(uid)


def parse_start(body: bytes) -> Start:
    """The run that a body asks for, without who asks. Raises Refused(400)."""
    document = _object(body, START_KEYS)
    scope = _text(document, "scope", "tree")
    if scope not in SCOPES:
        raise Refused(400, f"scope: expected {' or '.join(SCOPES)}, found {scope!r}")
    return Start(
        uid=-1,
        user="",
        pid=0,
        run_id=_text(document, "run_id", ""),
        job_id=_text(document, "job_id", ""),
        name=_text(document, "name", ""),
        scope=scope,
        labels=_labels(document.get("labels", {})),
        budget_grams=_budget(document.get("budget_grams")),
    )


def parse_end(body: bytes) -> str | None:
    """The job id that a body names, if any. Raises Refused(400)."""
    document = _object(body or b"{}", ("job_id",))
    return None if document.get("job_id") is None else _text(document, "job_id", "")


def _object(body: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, f"the body is not a JSON object with keys of {', '.join(keys)}")
    if unknown := [key for key in document if key not in keys]:
        raise Refused(400, f"{unknown[0]!r}: there is no such key; known are {', '.join(keys)}")
    return document


def _text(document: dict[str, Any], key: str, default: str) -> str:
    return _checked_text(key, document.get(key, default))


def _checked_text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Refused(400, f"{what}: expected a text, found {value!r:.100}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise Refused(400, f"{what}: is not valid Unicode") from None
    if size > TEXT_BYTES:
        raise Refused(400, f"{what}: has {size} bytes; at most {TEXT_BYTES} are taken")
    if "\0" in value:
        raise Refused(400, f"{what}: has a NUL character")
    return value


def _labels(value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise Refused(400, f"labels: expected an object of texts, found {value!r:.100}")
    if len(value) > LABELS:
        raise Refused(400, f"labels: there are {len(value)}; at most {LABELS} are taken")
    return tuple(
        (_checked_text("labels", key), _checked_text(f"labels.{key:.100}", text))
        for key, text in value.items()
    )


def _budget(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"budget_grams: expected a number, found {value!r:.100}")
    if not 0 < value < math.inf:
        raise Refused(400, f"budget_grams: expected a number above 0, found {value}")
    try:
        return float(value)
    except OverflowError:
        raise Refused(400, "budget_grams: is larger than any budget") from None
