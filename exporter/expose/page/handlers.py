"""Handlers of the live page: the node, its runs, one run, and receipts for download."""

import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

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
from exporter.model.record import AddInner, Document, Form, RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.runs import RunKey

UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
MAX_NAME_CHARACTERS = 64
RENDER_TIMEOUT_SECONDS = 5.0


class PageHandlers:
    """Renders pages outside the web thread, and only on request."""

    def __init__(
        self,
        api: ReadApi,
        history: PowerHistory,
        rendered: TickCache,
        executor: BoundedExecutor,
        forms: Mapping[str, Form],
        telemetry_path: str = METRICS_PATH,
        add_inner: AddInner | None = None,
    ) -> None:
        """`rendered` caches the shared page of each tick; `executor` renders the other pages.

        `add_inner` adds the sums of inner runs to the records of receipts.
        """
        self._add_inner = add_inner
        self._api = api
        self._history = history
        self._rendered = rendered
        self._executor = executor
        self._forms = forms
        self._telemetry_path = telemetry_path
        self._files = static_files()

    async def node(self, request: HttpRequest) -> HttpResponse:
        """Serve the page of the node; with `q`, only runs that match all its words."""
        current = self._api.current()
        query = query_value(request.query, "q") or ""
        charts = self._history.charts(current.snapshot.wall)
        make = partial(node_page, current.view, charts, query, self._telemetry_path)
        if query:
            return await self._page(request, make)
        compress = _takes_gzip(request)
        render = partial(_gzipped, make) if compress else make
        name = f"node {charts.minute} {compress}"
        return _response(await self._rendered.get(current, name, render), compressed=compress)

    async def runs(self, request: HttpRequest) -> HttpResponse:
        """Serve the runs in the ledger, including those that are no longer exported."""
        node = self._api.current().snapshot.node
        records = await self._api.newest(MAX_SEARCHED)
        query = query_value(request.query, "q") or ""
        make = partial(earlier_runs_page, node, records, query, self._telemetry_path)
        return await self._page(request, make)

    async def run(self, run_id: str, request: HttpRequest) -> HttpResponse:
        """Serve the page of one run. Raises RequestRefused(404)."""
        snapshot, record = await self._api.find(run_id, request.query)
        history = await self._history.run_history(record, snapshot.wall)
        data = RunPageData(record, snapshot, history, self._forms)
        return await self._page(request, partial(run_page, data, self._telemetry_path))

    async def receipt(self, run_id: str, request: HttpRequest) -> HttpResponse:
        """Serve a run's record as a file in the form named by `form`. Raises RequestRefused."""
        name = query_value(request.query, "form") or next(iter(self._forms))
        form = self._forms.get(name)
        if form is None:
            raise RequestRefused(400, f"form={name:.50}: expected one of {', '.join(self._forms)}")
        _, record = await self._api.find(run_id, request.query)
        inner = {} if self._add_inner is None else await self._api.inner_runs(record)
        body = await self._render(
            lambda: form.write(self._document(record, inner)).encode("utf-8", "replace")
        )
        file = f'attachment; filename="{file_name(record, form)}"'
        return HttpResponse(200, body + b"\n", form.media_type, (("Content-Disposition", file),))

    def _document(self, record: RunRecord, inner: Mapping[RunKey, Sequence[RunRecord]]) -> Document:
        """Return the document of a record with the sums of its inner runs, by enclosing run."""
        if self._add_inner is None:
            return record_to_json(record)
        outer_runs = (record, *chain.from_iterable(inner.values()))
        keys = {(each.run.key.uid, *each.run.label_values): each.run.key for each in outer_runs}

        def runs_inside(outer: Document) -> Iterator[Document]:
            key = keys[outer["uid"], outer["run_id"], outer["job_id"]]
            return map(record_to_json, inner[key])

        return self._add_inner(record_to_json(record), runs_inside)

    def file(self, name: str) -> HttpResponse:
        """Serve a static file. Raises RequestRefused(404)."""
        body = self._files.get(name)
        if body is None:
            raise RequestRefused(404, f"no such file; available files: {', '.join(STATIC_TYPES)}")
        return HttpResponse(200, body, STATIC_TYPES[name])

    async def _page(self, request: HttpRequest, make: Callable[[], bytes]) -> HttpResponse:
        compress = _takes_gzip(request)
        body = await self._render(partial(_gzipped, make) if compress else make)
        return _response(body, compressed=compress)

    async def _render(self, make: Callable[[], bytes]) -> bytes:
        try:
            return await self._executor.run(make, RENDER_TIMEOUT_SECONDS)
        except TimeoutError:
            raise RequestRefused(503, "too many page requests; try again later") from None


def file_name(record: RunRecord, form: Form) -> str:
    """Return a file name of letters, digits, `-` and `_`, safe for file systems and headers."""
    run = record.run
    identity = "-".join(text for text in run.label_values if text)
    safe = UNSAFE.sub("_", identity).strip("_-")[:MAX_NAME_CHARACTERS]
    return f"emissions-{safe or 'run'}.{form.suffix}"


def _takes_gzip(request: HttpRequest) -> bool:
    return accepts_gzip(request.headers.get("accept-encoding", ""))


def _gzipped(make: Callable[[], bytes]) -> bytes:
    """Return the output of `make` compressed to a fifth, in at most about two milliseconds."""
    return gzip.compress(make(), compresslevel=1, mtime=0)


def _response(body: bytes, *, compressed: bool) -> HttpResponse:
    headers = [("Vary", "Accept-Encoding"), *([("Content-Encoding", "gzip")] if compressed else [])]
    return HttpResponse(200, body, HTML_TYPE, tuple(headers), PAGE_CONTENT_SECURITY_POLICY)
