"""Answers with a page for a person: the node, its runs, one run, and a receipt to take along."""

import gzip
import re
from collections.abc import Callable, Mapping
from functools import partial

from exporter.errors import RequestRefused
from exporter.expose.api.read_api import ReadApi, query_value
from exporter.expose.http.bounded_executor import BoundedExecutor, TickCache
from exporter.expose.http.http1 import HttpRequest, HttpResponse, accepts_gzip
from exporter.expose.page.layout import (
    HTML_TYPE,
    METRICS_PATH,
    PAGE_CONTENT_SECURITY_POLICY,
    STATIC_TYPES,
    static_files,
)
from exporter.expose.page.node import node_page
from exporter.expose.page.power_history import PowerHistory
from exporter.expose.page.run import RunPageData, run_page
from exporter.expose.page.runs import MAX_SEARCHED, earlier_runs_page
from exporter.model.record import Form, RunRecord, record_to_json

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
MAX_NAME_CHARACTERS = 64
RENDER_TIMEOUT_SECONDS = 5.0


class PageHandlers:
    """Renders pages beside the web thread, and only when they are asked for."""

    def __init__(
        self,
        api: ReadApi,
        historian: PowerHistory,
        rendered: TickCache,
        desk: BoundedExecutor,
        forms: Mapping[str, Form],
        telemetry_path: str = METRICS_PATH,
    ) -> None:
        """`rendered` has what everybody asks for of a tick, `desk` renders the rest."""
        self._api = api
        self._historian = historian
        self._rendered = rendered
        self._desk = desk
        self._forms = forms
        self._telemetry_path = telemetry_path
        self._files = static_files()

    async def node(self, request: HttpRequest) -> HttpResponse:
        """The node now; with `q`, the runs that have all its words."""
        current = self._api.current()
        query = query_value(request.query, "q") or ""
        charts = self._historian.charts(current.snapshot.wall)
        make = partial(node_page, current.view, charts, query, self._telemetry_path)
        if query:
            return await self._page(request, make)
        packed = _takes_gzip(request)
        made = partial(_gzipped, make) if packed else make
        name = f"node {charts.minute} {packed}"
        return _response(await self._rendered.get(current, name, made), packed=packed)

    async def runs(self, request: HttpRequest) -> HttpResponse:
        """Runs that the ledger knows, those that left the page of the node among them."""
        node = self._api.current().snapshot.node
        records = await self._api.newest(MAX_SEARCHED)
        query = query_value(request.query, "q") or ""
        make = partial(earlier_runs_page, node, records, query, self._telemetry_path)
        return await self._page(request, make)

    async def run(self, run_id: str, request: HttpRequest) -> HttpResponse:
        """One run. Raises Refused(404)."""
        snapshot, record = await self._api.find(run_id, request.query)
        past = await self._historian.run_history(record, snapshot.wall)
        shown = RunPageData(record, snapshot, past, self._forms)
        return await self._page(request, partial(run_page, shown, self._telemetry_path))

    async def receipt(self, run_id: str, request: HttpRequest) -> HttpResponse:
        """A run's record in the form that `form` names, as a file. Raises Refused."""
        name = query_value(request.query, "form") or next(iter(self._forms))
        form = self._forms.get(name)
        if form is None:
            raise RequestRefused(400, f"form={name:.50}: expected one of {', '.join(self._forms)}")
        _, record = await self._api.find(run_id, request.query)
        body = await self._render(
            lambda: form.write(record_to_json(record)).encode("utf-8", "replace")
        )
        file = f'attachment; filename="{file_name(record, form)}"'
        return HttpResponse(200, body + b"\n", form.media_type, (("Content-Disposition", file),))

    def file(self, name: str) -> HttpResponse:
        """A file that pages bring along. Raises Refused(404)."""
        body = self._files.get(name)
        if body is None:
            raise RequestRefused(
                404, f"there is no file of this name; there is {', '.join(STATIC_TYPES)}"
            )
        return HttpResponse(200, body, STATIC_TYPES[name])

    async def _page(self, request: HttpRequest, make: Callable[[], bytes]) -> HttpResponse:
        packed = _takes_gzip(request)
        body = await self._render(partial(_gzipped, make) if packed else make)
        return _response(body, packed=packed)

    async def _render(self, make: Callable[[], bytes]) -> bytes:
        try:
            return await self._desk.run(make, RENDER_TIMEOUT_SECONDS)
        except TimeoutError:
            raise RequestRefused(503, "too many pages are asked for; try again later") from None


def file_name(record: RunRecord, form: Form) -> str:
    """A name that is safe for every file system and header: letters, digits, `-` and `_`."""
    run = record.run
    known = "-".join(text for text in (run.shown_id, run.key.job_id) if text)
    safe = UNSAFE.sub("_", known).strip("_-")[:MAX_NAME_CHARACTERS]
    return f"emissions-{safe or 'run'}.{form.suffix}"


def _takes_gzip(request: HttpRequest) -> bool:
    return accepts_gzip(request.headers.get("accept-encoding", ""))


def _gzipped(make: Callable[[], bytes]) -> bytes:
    """What `make` makes, a fifth as long, for two milliseconds where it is longest."""
    return gzip.compress(make(), compresslevel=1, mtime=0)


def _response(body: bytes, *, packed: bool) -> HttpResponse:
    headers = [("Vary", "Accept-Encoding"), *([("Content-Encoding", "gzip")] if packed else [])]
    return HttpResponse(200, body, HTML_TYPE, tuple(headers), PAGE_CONTENT_SECURITY_POLICY)
