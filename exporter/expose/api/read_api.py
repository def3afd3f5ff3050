"""The read API: runs, devices, carbon intensity and the whole snapshot as JSON."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from exporter.errors import LedgerError, RequestRefused
from exporter.expose.api.documents import (
    devices_to_json,
    intensity_to_json,
    run_records,
    runs_to_json,
    series_to_json,
    snapshot_to_json,
)
from exporter.expose.exposition import PublishedTick, SnapshotPublisher
from exporter.expose.http.bounded_executor import BoundedExecutor, TickCache
from exporter.expose.http.http1 import JSON_TYPE, HttpResponse, json_bytes, json_response
from exporter.model.record import GroupBy, RunArchive, RunCursor, RunFilter, RunRecord
from exporter.model.record_document import record_to_json, totals_to_json
from exporter.model.runs import RunKey
from exporter.model.snapshot import Snapshot, device_models, record_of, run_power_watts
from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

DEFAULT_LIMIT = 100
MAX_UNIX_SECONDS = 1e11
MAX_LIMIT = 1_000
ARCHIVE_TIMEOUT_SECONDS = 5.0

Query = Mapping[str, list[str]]
T = TypeVar("T")


class ReadApi:
    """Serves the current state, and runs that are no longer exported."""

    def __init__(
        self,
        publisher: SnapshotPublisher,
        archive: RunArchive,
        executor: BoundedExecutor,
        rendered: TickCache,
    ) -> None:
        """`executor` executes queries of the archive, `rendered` caches documents of each tick."""
        self._publisher = publisher
        self._archive = archive
        self._executor = executor
        self._rendered = rendered

    def current(self) -> PublishedTick:
        """Return the latest published tick. Raises RequestRefused(503) before the first one."""
        current = self._publisher.current
        if current is None:
            raise RequestRefused(503, "the first tick has not completed yet; try again")
        return current

    async def runs(self, query: Query) -> HttpResponse:
        """List runs, newest first.

        `state=open` selects active runs; `run_id`, `job_id`, `name`, `user`, `group`, `namespace`,
        `account` and `inside` filter; `limit` sets how many. `after` is the `next` of a previous
        response and continues its list. `inside_job_id` tells apart enclosing runs with one id.

        With `by`, runs that are not in the snapshot are summed by job, group, user, namespace or
        account; with `since`, only runs that started then or later are included.
        """
        limit = _parse_limit(query)
        after = _parse_cursor(query)
        state = query_value(query, "state")
        if state not in (None, "open"):
            raise RequestRefused(400, f"state={state}: expected open, or no state for all runs")
        texts = {name: query_value(query, name) for name in RunFilter._fields if name != "inside"}
        run_filter = RunFilter.of(texts)._replace(inside=await self._enclosing_key(query))
        snapshot = self.current().snapshot
        by = query_value(query, "by")
        if by is not None:
            since = _parse_time(query, "since", 0.0)
            work = partial(self._sum_runs, snapshot, _parse_sums(by), since, run_filter)
            return HttpResponse(200, await self._query(work), JSON_TYPE)
        work = partial(self._list, snapshot, limit, run_filter, after, only_open=state == "open")
        return HttpResponse(200, await self._query(work), JSON_TYPE)

    async def run(self, run_id: str, query: Query) -> HttpResponse:
        """Serve the run with this id; `job_id` selects one of several jobs.

        Of several runs an active one takes precedence, then the newest.
        """
        snapshot, record = await self.find(run_id, query)
        power_watts = run_power_watts(snapshot, record.run)
        return json_response({**record_to_json(record), "power_watts": power_watts})

    async def series(self, run_id: str, query: Query) -> HttpResponse:
        """Serve the usage of one run from `since` to `until`, in seconds since the Unix epoch.

        By minute for up to a day, else by hour. The default is the last hour.
        """
        snapshot, record = await self.find(run_id, query)
        until = _parse_time(query, "until", snapshot.wall)
        since = _parse_time(query, "since", until - SECONDS_PER_HOUR)
        by_hour = until - since > SECONDS_PER_DAY
        usage = partial(self._archive.usage, since, until, record.run.key, by_hour=by_hour)
        intervals = await self._query(usage)
        step_seconds = SECONDS_PER_HOUR if by_hour else SECONDS_PER_MINUTE
        return json_response(series_to_json(record.run, intervals, since, until, step_seconds))

    async def newest(self, limit: int) -> list[RunRecord]:
        """Return the newest runs, exported or not, newest first. Raises RequestRefused(503)."""
        return await self._query(
            partial(self._find_runs, self.current().snapshot, limit, RunFilter())
        )

    async def inner_runs(self, outer: RunRecord) -> dict[RunKey, list[RunRecord]]:
        """Return the runs inside a run, at any depth, by enclosing run. Raises RequestRefused."""
        snapshot = self.current().snapshot
        return await self._query(partial(self._find_inner_runs, snapshot, outer.run.key))

    def _find_inner_runs(self, snapshot: Snapshot, outer: RunKey) -> dict[RunKey, list[RunRecord]]:
        found: dict[RunKey, list[RunRecord]] = {}
        waiting = [outer]
        while waiting:
            key = waiting.pop()
            if key in found:
                continue
            found[key] = []
            after: RunCursor | None = None
            while batch := self._find_runs(snapshot, MAX_LIMIT, RunFilter(inside=key), after):
                found[key] += batch
                after = RunCursor.of(batch[-1].run)
                if len(batch) < MAX_LIMIT:
                    break
            waiting += [record.run.key for record in found[key]]
        return found

    async def _enclosing_key(self, query: Query) -> RunKey | None:
        """Return the key of the run that `inside` names. Raises RequestRefused(404)."""
        run_id = query_value(query, "inside")
        if not run_id:
            return None
        _, record = await self._find(run_id, query_value(query, "inside_job_id"))
        return record.run.key

    async def find(self, run_id: str, query: Query) -> tuple[Snapshot, RunRecord]:
        """Return the latest snapshot and the run with this id. Raises RequestRefused(404)."""
        return await self._find(run_id, query_value(query, "job_id"))

    async def _find(self, run_id: str, job_id: str | None) -> tuple[Snapshot, RunRecord]:
        run_filter = RunFilter(run_id, job_id)
        snapshot = self.current().snapshot
        exported = (*snapshot.runs, *snapshot.leaving)
        matches = [record_of(snapshot, run) for run in exported if run_filter.has(run)]
        if not matches:
            stored = await self._query(partial(self._archive.runs, MAX_LIMIT, run_filter))
            matches = _with_models(stored, snapshot)
        if not matches:
            of_job = "" if job_id is None else f" of job {job_id!r}"
            raise RequestRefused(
                404,
                f"run {run_id!r}{of_job} not found on this machine; "
                "`emissions-exporter runs` lists all runs",
            )
        best = max(matches, key=lambda record: (record.run.ended is None, record.run.started))
        return snapshot, best

    def devices(self) -> HttpResponse:
        """Serve all devices with their sums."""
        return json_response(devices_to_json(self.current().view))

    def intensity(self) -> HttpResponse:
        """Serve the carbon intensity in effect."""
        return json_response(intensity_to_json(self.current().snapshot))

    async def ledger(self) -> HttpResponse:
        """Serve the id of the ledger, which was generated with its file."""
        return json_response({"ledger_id": await self._query(self._archive.ledger_id)})

    async def snapshot(self) -> HttpResponse:
        """Serve the complete state of the latest tick."""
        current = self.current()
        body = await self._rendered.get(
            current, "snapshot", lambda: json_bytes(snapshot_to_json(current.view))
        )
        return HttpResponse(200, body, JSON_TYPE)

    def _list(
        self,
        snapshot: Snapshot,
        limit: int,
        run_filter: RunFilter,
        after: RunCursor | None,
        *,
        only_open: bool,
    ) -> bytes:
        found = self._find_runs(snapshot, limit + 1, run_filter, after, only_open=only_open)
        shown = found[:limit]
        last = shown[-1].run if len(found) > limit else None
        cursor = None if last is None else json.dumps([last.started, *last.key])
        return json_bytes({**runs_to_json(shown), "next": cursor, **_echoed(run_filter)})

    def _find_runs(
        self,
        snapshot: Snapshot,
        limit: int,
        run_filter: RunFilter,
        after: RunCursor | None = None,
        *,
        only_open: bool = False,
    ) -> list[RunRecord]:
        in_snapshot = [record for record in run_records(snapshot) if run_filter.has(record.run)]
        records = [each for each in in_snapshot if after is None or after.precedes(each.run)]
        if only_open:
            records = [record for record in records if record.run.ended is None]
        else:
            shown = {record.run.key for record in in_snapshot}
            # The ledger may return all runs of the snapshot again, so ask for as many more.
            stored = self._archive.runs(limit + len(shown), run_filter, after)
            records += [r for r in _with_models(stored, snapshot) if r.run.key not in shown]
        records.sort(key=lambda record: RunCursor.of(record.run).order)
        return records[:limit]

    def _sum_runs(
        self, snapshot: Snapshot, by: GroupBy, since: float, run_filter: RunFilter
    ) -> bytes:
        """Return the runs of the snapshot one by one, and sums of all other runs.

        The ledger may not have the runs of the snapshot yet. Runs of the snapshot that started
        before `since` are excluded from both.
        """
        in_snapshot = run_records(snapshot)
        models = device_models(snapshot)
        keys = [record.run.key for record in in_snapshot]
        sums = self._archive.sums(by, since, run_filter, keys)
        runs = [r for r in in_snapshot if run_filter.has(r.run) and r.run.started >= since]
        found = {"sums": [totals_to_json(each, models) for each in sums], **runs_to_json(runs)}
        return json_bytes({**found, "next": None, **_echoed(run_filter)})

    async def _query(self, query: Callable[[], T]) -> T:
        """Execute a query of the archive in the executor. Raises RequestRefused(503)."""
        try:
            return await self._executor.run(query, ARCHIVE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise RequestRefused(
                503,
                f"the ledger did not respond within {ARCHIVE_TIMEOUT_SECONDS:g} s; check its disk",
            ) from None
        except LedgerError as error:
            raise RequestRefused(503, str(error)) from None


def _with_models(records: Iterable[RunRecord], snapshot: Snapshot) -> list[RunRecord]:
    """Add device models to records of the ledger, which stores only device ids."""
    models = device_models(snapshot)
    return [record._replace(models=models) for record in records]


def _echoed(run_filter: RunFilter) -> dict[str, str]:
    """Echo the filters that older daemons ignore."""
    filters = {"namespace": run_filter.namespace, "account": run_filter.account}
    return {name: text for name, text in filters.items() if text}


def _parse_limit(query: Query) -> int:
    text = query_value(query, "limit")
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise RequestRefused(400, f"limit={text}: expected a number from 1 to {MAX_LIMIT}")
    return int(text)


def _parse_sums(by: str) -> GroupBy:
    try:
        return GroupBy(by)
    except ValueError:
        raise RequestRefused(400, f"by={by:.50}: expected {', '.join(GroupBy)}") from None


def _parse_cursor(query: Query) -> RunCursor | None:
    text = query_value(query, "after")
    if text is None:
        return None
    try:
        started, uid, run_id, job_id = json.loads(text)
        return RunCursor(float(started), RunKey(int(uid), str(run_id), str(job_id)))
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RequestRefused(
            400, f"after={text:.50}: expected the value of `next` in a previous response"
        ) from None


def _parse_time(query: Query, name: str, default: float) -> float:
    text = query_value(query, name)
    if text is None:
        return default
    try:
        moment = float(text)
    except ValueError:
        moment = math.nan
    if not 0 <= moment <= MAX_UNIX_SECONDS:
        raise RequestRefused(400, f"{name}={text:.50}: expected seconds since the Unix epoch")
    return moment


def query_value(query: Query, name: str) -> str | None:
    """Return the value of a query parameter, the last one if there are several."""
    values = query.get(name)
    return values[-1] if values else None
