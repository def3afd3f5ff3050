"""Routes over TCP, read-only: metrics, live page, read API, health."""

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
"""Paths below `/` that are used for something else."""
MAX_MISSED_TICKS = 3
MIN_STALE_SECONDS = 60.0
"""The daemon is unhealthy if both this time and this many intervals passed without a tick.

A loop that gets little CPU time next to busy processes is late, and a restart would only cost it
more.
"""
FIRST_TICK_TIMEOUT_SECONDS = 60
"""Timeout of the first tick: a driver may have to be initialized."""


Route = Callable[[HttpRequest], Awaitable[HttpResponse]]


def check_telemetry_path(path: str) -> None:
    """Raise ConfigError if the metrics cannot be served at this path."""
    if RESERVED_PATHS.match(path) or path == "/":
        reason = "this path is reserved"
    elif not TELEMETRY_PATH.fullmatch(path):
        reason = "expected / and names of letters, digits, `.`, `_`, `~` and `-`"
    else:
        return
    raise ConfigError(
        f"--web.telemetry-path={path}: {reason}; choose another, such as {METRICS_PATH}"
    )


class Router:
    """Dispatches GET and HEAD requests."""

    def __init__(
        self,
        publisher: SnapshotPublisher,
        api: ReadApi,
        rendered: TickCache,
        pages: PageHandlers,
        clock: Clock,
        telemetry_path: str = METRICS_PATH,
    ) -> None:
        """`rendered` caches responses of each tick. Raises ConfigError."""
        check_telemetry_path(telemetry_path)
        self._telemetry_path = telemetry_path
        self._publisher = publisher
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
        """Handle any request. Raises RequestRefused."""
        try:
            route = self._routes.get(request.path) or self._subpath_route(request.path)
        except RequestRefused as error:
            if request.path.startswith(f"{RUN_PAGES_PATH}/"):
                return self._error_page(error, RUN_PAGE_ROOT)
            raise
        if route is None:
            known = ", ".join(self._routes)
            raise RequestRefused(404, f"unknown path {request.path}; known paths are {known}")
        if request.method not in READ_METHODS:
            return method_not_allowed(READ_METHODS)
        return await route(request)

    def _subpath_route(self, path: str) -> Route | None:
        """Return the route of a path with a variable segment. Raises RequestRefused(400)."""
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
        """Report whether the loop runs."""
        current = self._publisher.current
        if current is None:
            last_tick_ns, allowed = self._started_ns, float(FIRST_TICK_TIMEOUT_SECONDS)
        else:
            last_tick_ns = current.snapshot.at_ns
            allowed = max(MIN_STALE_SECONDS, MAX_MISSED_TICKS * current.snapshot.interval_seconds)
        silence = seconds(self._clock.boottime_ns() - last_tick_ns)
        if silence > allowed:
            raise RequestRefused(
                503,
                f"no tick for {silence:.1f} s (limit {allowed:g} s); a source or the disk may "
                "hang, or the process gets no CPU time; see the log",
            )
        if current is not None and current.snapshot.health.sick:
            raise RequestRefused(503, current.snapshot.health.sick)
        return HttpResponse(200, b"healthy\n", PLAIN_TYPE)

    async def _ready(self, _: HttpRequest) -> HttpResponse:
        """Report whether the first tick has completed."""
        self._api.current()
        return HttpResponse(200, b"ready\n", PLAIN_TYPE)

    async def _html_route(self, answer: Route, root: str, request: HttpRequest) -> HttpResponse:
        """Serve a page; errors are pages, too."""
        try:
            return await answer(request)
        except RequestRefused as error:
            return self._error_page(error, root)

    def _error_page(self, error: RequestRefused, root: str) -> HttpResponse:
        body = error_page(error.status, str(error), root, self._telemetry_path)
        return HttpResponse(error.status, body, HTML_TYPE, policy=PAGE_CONTENT_SECURITY_POLICY)
