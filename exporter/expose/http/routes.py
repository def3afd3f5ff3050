"""What is served to the world, read only: metrics, the live page, the API, health."""

import re
from collections.abc import Awaitable, Callable
from functools import partial

from exporter.clock import Clock
from exporter.errors import ConfigError, Refused
from exporter.expose.api.answers import Api
from exporter.expose.board import Board
from exporter.expose.exposition import OPENMETRICS_TYPE, TEXT_TYPE
from exporter.expose.http.desk import PerTick
from exporter.expose.http.http1 import (
    PLAIN_TYPE,
    READ,
    Request,
    Response,
    accepts_gzip,
    child,
    not_allowed,
    prefers_openmetrics,
)
from exporter.expose.page.document import HOME, HTML_TYPE, INNER, METRICS, POLICY, refused
from exporter.expose.page.pages import Pages
from exporter.units import seconds

RUNS = "/api/v1/runs"
SERIES = "/series"
RUN_PAGES = "/runs"
RECEIPT = "/receipt"
STATIC = "/static"
TELEMETRY_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
TAKEN = re.compile(r"/(runs|api|static|-)(/|$)")
"""Where everything else is, below `/`."""
HEARTBEATS = 3
STUCK_SECONDS = 60.0
"""The daemon is unhealthy after both: so many intervals, and so long, without a tick. A loop that
gets little CPU time beside busy processes is late, and a restart would only cost it more."""
FIRST_TICK_SECONDS = 60
"""How long the first tick may take: a driver may have to be woken."""


Route = Callable[[Request], Awaitable[Response]]


def check_telemetry_path(path: str) -> None:
    """Raise ConfigError where the metrics cannot be served at that path."""
    if TAKEN.match(path) or path == "/":
        why = "something else is served there"
    elif not TELEMETRY_PATH.fullmatch(path):
        why = "expected / and names of letters, digits, `.`, `_`, `~` and `-`"
    else:
        return
    raise ConfigError(f"--web.telemetry-path={path}: {why}; choose another, such as {METRICS}")


class Routes:
    """Answers GET and HEAD."""

    def __init__(
        self,
        board: Board,
        api: Api,
        rendered: PerTick,
        pages: Pages,
        clock: Clock,
        telemetry_path: str = METRICS,
    ) -> None:
        """`rendered` has what a tick looks like. Raises ConfigError."""
        check_telemetry_path(telemetry_path)
        self._telemetry_path = telemetry_path
        self._board = board
        self._api = api
        self._rendered = rendered
        self._pages = pages
        self._clock = clock
        self._started_ns = clock.boottime_ns()
        self._routes: dict[str, Route] = {
            "/": partial(self._for_people, pages.node, HOME),
            RUN_PAGES: partial(self._for_people, pages.runs, HOME),
            telemetry_path: self._metrics,
            RUNS: self._runs,
            "/api/v1/devices": self._devices,
            "/api/v1/intensity": self._intensity,
            "/api/v1/snapshot": self._snapshot,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
        }

    async def answer(self, request: Request) -> Response:
        """The answer to any request. Raises Refused."""
        try:
            route = self._routes.get(request.path) or self._below(request.path)
        except Refused as error:
            if request.path.startswith(f"{RUN_PAGES}/"):
                return self._refusal(error, INNER)
            raise
        if route is None:
            known = ", ".join(self._routes)
            raise Refused(404, f"there is nothing at {request.path}; there is {known}")
        if request.method not in READ:
            return not_allowed(READ)
        return await route(request)

    def _below(self, path: str) -> Route | None:
        """What answers at a path with a name in it. Raises Refused(400)."""
        if (run_id := child(path, RUNS)) is not None:
            return partial(self._run, run_id)
        if (run_id := child(path.removesuffix(SERIES), RUNS)) is not None:
            return partial(self._series, run_id)
        if (run_id := child(path, RUN_PAGES)) is not None:
            return partial(self._for_people, partial(self._pages.run, run_id), INNER)
        if (run_id := child(path.removesuffix(RECEIPT), RUN_PAGES)) is not None:
            return partial(self._pages.receipt, run_id)
        if (name := child(path, STATIC)) is not None:
            return partial(self._file, name)
        return None

    async def _run(self, run_id: str, request: Request) -> Response:
        return await self._api.run(run_id, request.query)

    async def _series(self, run_id: str, request: Request) -> Response:
        return await self._api.series(run_id, request.query)

    async def _file(self, name: str, _: Request) -> Response:
        return self._pages.file(name)

    async def _metrics(self, request: Request) -> Response:
        current = self._api.current()
        page = current.page
        openmetrics = prefers_openmetrics(request.headers.get("accept", ""))
        headers = [("Vary", "Accept, Accept-Encoding")]
        if names := request.query.get("name[]"):
            body = page.select(names, openmetrics=openmetrics)
        elif accepts_gzip(request.headers.get("accept-encoding", "")):
            name = "openmetrics" if openmetrics else "text"
            pack = partial(page.gzipped, openmetrics=openmetrics)
            body = await self._rendered.get(current, name, pack)
            headers.append(("Content-Encoding", "gzip"))
        else:
            body = page.body(openmetrics=openmetrics)
        content_type = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        return Response(200, body, content_type, tuple(headers))

    async def _runs(self, request: Request) -> Response:
        return await self._api.runs(request.query)

    async def _devices(self, _: Request) -> Response:
        return self._api.devices()

    async def _intensity(self, _: Request) -> Response:
        return self._api.intensity()

    async def _snapshot(self, _: Request) -> Response:
        return await self._api.snapshot()

    async def _healthy(self, _: Request) -> Response:
        """Whether the loop's heart beats."""
        current = self._board.current
        if current is None:
            beat_ns, allowed = self._started_ns, float(FIRST_TICK_SECONDS)
        else:
            beat_ns = current.snapshot.at_ns
            allowed = max(STUCK_SECONDS, HEARTBEATS * current.snapshot.interval_seconds)
        silence = seconds(self._clock.boottime_ns() - beat_ns)
        if silence > allowed:
            raise Refused(
                503,
                f"no tick for {silence:.1f} s, {allowed:g} s are allowed; a source or the disk may "
                "hang, or the process gets no CPU time; see the log",
            )
        if current is not None and current.snapshot.health.sick:
            raise Refused(503, current.snapshot.health.sick)
        return Response(200, b"healthy\n", PLAIN_TYPE)

    async def _ready(self, _: Request) -> Response:
        """Whether there is something to show."""
        self._api.current()
        return Response(200, b"ready\n", PLAIN_TYPE)

    async def _for_people(self, answer: Route, root: str, request: Request) -> Response:
        """A page; a refusal too is one."""
        try:
            return await answer(request)
        except Refused as error:
            return self._refusal(error, root)

    def _refusal(self, error: Refused, root: str) -> Response:
        body = refused(error.status, str(error), root, self._telemetry_path)
        return Response(error.status, body, HTML_TYPE, policy=POLICY)
