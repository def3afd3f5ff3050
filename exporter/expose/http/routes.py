"""What is served to the world, read only: metrics, the live page, the API, health."""

import re
from collections.abc import Awaitable, Callable
from functools import partial

from exporter.clock import Clock
from exporter.errors import ConfigError, RequestRefused
from exporter.expose.api.read_api import ReadApi
from exporter.expose.exposition import OPENMETRICS_TYPE, TEXT_TYPE, SnapshotPublisher
from exporter.expose.http.bounded_executor import TickCache
from exporter.expose.http.http1 import (
    PLAIN_TYPE,
    READ_METHODS,
    HttpRequest,
    HttpResponse,
    accepts_gzip,
    method_not_allowed,
    path_child,
    prefers_openmetrics,
)
from exporter.expose.page.handlers import PageHandlers
from exporter.expose.page.layout import (
    HOME_ROOT,
    HTML_TYPE,
    METRICS_PATH,
    PAGE_CONTENT_SECURITY_POLICY,
    RUN_PAGE_ROOT,
    error_page,
)
from exporter.units import seconds

RUNS_PATH = "/api/v1/runs"
SERIES_SUFFIX = "/series"
RUN_PAGES_PATH = "/runs"
RECEIPT_SUFFIX = "/receipt"
STATIC_PATH = "/static"
TELEMETRY_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
RESERVED_PATHS = re.compile(r"/(runs|api|static|-)(/|$)")
"""Where everything else is, below `/`."""
MAX_MISSED_TICKS = 3
MIN_STALE_SECONDS = 60.0
"""The daemon is unhealthy after both: so many intervals, and so long, without a tick. A loop that
gets little CPU time beside busy processes is late, and a restart would only cost it more."""
FIRST_TICK_TIMEOUT_SECONDS = 60
"""How long the first tick may take: a driver may have to be woken."""


Route = Callable[[HttpRequest], Awaitable[HttpResponse]]


def check_telemetry_path(path: str) -> None:
    """Raise ConfigError where the metrics cannot be served at that path."""
    if RESERVED_PATHS.match(path) or path == "/":
        why = "something else is served there"
    elif not TELEMETRY_PATH.fullmatch(path):
        why = "expected / and names of letters, digits, `.`, `_`, `~` and `-`"
    else:
        return
    raise ConfigError(f"--web.telemetry-path={path}: {why}; choose another, such as {METRICS_PATH}")


class Router:
    """Answers GET and HEAD."""

    def __init__(
        self,
        board: SnapshotPublisher,
        api: ReadApi,
        rendered: TickCache,
        pages: PageHandlers,
        clock: Clock,
        telemetry_path: str = METRICS_PATH,
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
            "/": partial(self._html_route, pages.node, HOME_ROOT),
            RUN_PAGES_PATH: partial(self._html_route, pages.runs, HOME_ROOT),
            telemetry_path: self._metrics,
            RUNS_PATH: self._runs,
            "/api/v1/devices": self._devices,
            "/api/v1/intensity": self._intensity,
            "/api/v1/snapshot": self._snapshot,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
        }

    async def answer(self, request: HttpRequest) -> HttpResponse:
        """The answer to any request. Raises Refused."""
        try:
            route = self._routes.get(request.path) or self._below(request.path)
        except RequestRefused as error:
            if request.path.startswith(f"{RUN_PAGES_PATH}/"):
                return self._refusal(error, RUN_PAGE_ROOT)
            raise
        if route is None:
            known = ", ".join(self._routes)
            raise RequestRefused(404, f"there is nothing at {request.path}; there is {known}")
        if request.method not in READ_METHODS:
            return method_not_allowed(READ_METHODS)
        return await route(request)

    def _below(self, path: str) -> Route | None:
        """What answers at a path with a name in it. Raises Refused(400)."""
        if (run_id := path_child(path, RUNS_PATH)) is not None:
            return partial(self._run, run_id)
        if (run_id := path_child(path.removesuffix(SERIES_SUFFIX), RUNS_PATH)) is not None:
            return partial(self._series, run_id)
        if (run_id := path_child(path, RUN_PAGES_PATH)) is not None:
            return partial(self._html_route, partial(self._pages.run, run_id), RUN_PAGE_ROOT)
        if (run_id := path_child(path.removesuffix(RECEIPT_SUFFIX), RUN_PAGES_PATH)) is not None:
            return partial(self._pages.receipt, run_id)
        if (name := path_child(path, STATIC_PATH)) is not None:
            return partial(self._file, name)
        return None

    async def _run(self, run_id: str, request: HttpRequest) -> HttpResponse:
        return await self._api.run(run_id, request.query)

    async def _series(self, run_id: str, request: HttpRequest) -> HttpResponse:
        return await self._api.series(run_id, request.query)

    async def _file(self, name: str, _: HttpRequest) -> HttpResponse:
        return self._pages.file(name)

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        current = self._api.current()
        page = current.metrics_page
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
        return HttpResponse(200, body, content_type, tuple(headers))

    async def _runs(self, request: HttpRequest) -> HttpResponse:
        return await self._api.runs(request.query)

    async def _devices(self, _: HttpRequest) -> HttpResponse:
        return self._api.devices()

    async def _intensity(self, _: HttpRequest) -> HttpResponse:
        return self._api.intensity()

    async def _snapshot(self, _: HttpRequest) -> HttpResponse:
        return await self._api.snapshot()

    async def _healthy(self, _: HttpRequest) -> HttpResponse:
        """Whether the loop's heart beats."""
        current = self._board.current
        if current is None:
            heartbeat_interval_ns, allowed = self._started_ns, float(FIRST_TICK_TIMEOUT_SECONDS)
        else:
            heartbeat_interval_ns = current.snapshot.at_ns
            allowed = max(MIN_STALE_SECONDS, MAX_MISSED_TICKS * current.snapshot.interval_seconds)
        silence = seconds(self._clock.boottime_ns() - heartbeat_interval_ns)
        if silence > allowed:
            raise RequestRefused(
                503,
                f"no tick for {silence:.1f} s, {allowed:g} s are allowed; a source or the disk may "
                "hang, or the process gets no CPU time; see the log",
            )
        if current is not None and current.snapshot.health.sick:
            raise RequestRefused(503, current.snapshot.health.sick)
        return HttpResponse(200, b"healthy\n", PLAIN_TYPE)

    async def _ready(self, _: HttpRequest) -> HttpResponse:
        """Whether there is something to show."""
        self._api.current()
        return HttpResponse(200, b"ready\n", PLAIN_TYPE)

    async def _html_route(self, answer: Route, root: str, request: HttpRequest) -> HttpResponse:
        """A page; a refusal too is one."""
        try:
            return await answer(request)
        except RequestRefused as error:
            return self._refusal(error, root)

    def _refusal(self, error: RequestRefused, root: str) -> HttpResponse:
        body = error_page(error.status, str(error), root, self._telemetry_path)
        return HttpResponse(error.status, body, HTML_TYPE, policy=PAGE_CONTENT_SECURITY_POLICY)
