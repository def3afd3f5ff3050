"""Answers as JSON: runs now and past, devices, grid intensity, the whole snapshot."""

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
from exporter.model.record import (
    GroupBy,
    RunArchive,
    RunCursor,
    RunFilter,
    RunRecord,
    record_to_json,
    totals_to_json,
)
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
    """Answers questions about the state now, and about runs that have left the page."""

    def __init__(
        self,
        board: SnapshotPublisher,
        archive: RunArchive,
        questions: BoundedExecutor,
        rendered: TickCache,
    ) -> None:
        """`questions` is where those to the archive wait, `rendered` has what a tick looks like."""
        self._board = board
        self._archive = archive
        self._questions = questions
        self._rendered = rendered

    def current(self) -> PublishedTick:
        """The latest tick. Raises Refused(503) before the first."""
        current = self._board.current
        if current is None:
            raise RequestRefused(503, "the first look at the machine is not done yet; try again")
        return current

    async def runs(self, query: Query) -> HttpResponse:
        """Runs, newest first: `state=open` for those that are open, `limit` for how many.

        `run_id`, `job_id`, `user`, `group`, `namespace` and `inside` say which. `after` is what an
        earlier answer has as `next`, for the runs that come after its own. With `by` the runs that
        are not on the page are added up by job, group, user or namespace; with `since`, those that
        began then or later.
        """
        limit = _parse_limit(query)
        after = _parse_cursor(query)
        state = query_value(query, "state")
        if state not in (None, "open"):
            raise RequestRefused(400, f"state={state}: only state=open is known, for running runs")
        wanted = RunFilter(
            query_value(query, "run_id") or "",
            query_value(query, "job_id"),
            query_value(query, "user") or "",
            query_value(query, "group") or "",
            query_value(query, "namespace") or "",
            query_value(query, "inside") or "",
        )
        snapshot = self.current().snapshot
        by = query_value(query, "by")
        if by is not None:
            since = _parse_time(query, "since", 0.0)
            adding_up = partial(self._add_up, snapshot, _parse_sums(by), since, wanted)
            return HttpResponse(200, await self._ask(adding_up), JSON_TYPE)
        listing = partial(self._list, snapshot, limit, wanted, after, only_open=state == "open")
        return HttpResponse(200, await self._ask(listing), JSON_TYPE)

    async def run(self, run_id: str, query: Query) -> HttpResponse:
        """The run that is shown under an id; with `job_id`, that job's.

        Of several an open one is meant, then the newest.
        """
        snapshot, record = await self.find(run_id, query)
        power_watts = run_power_watts(snapshot, record.run)
        return json_response({**record_to_json(record), "power_watts": power_watts})

    async def series(self, run_id: str, query: Query) -> HttpResponse:
        """Usage of one run over time, `since` to `until` in seconds since the epoch.

        By the minute for a day at most, else by the hour. The default is the last hour.
        """
        snapshot, record = await self.find(run_id, query)
        until = _parse_time(query, "until", snapshot.wall)
        since = _parse_time(query, "since", until - SECONDS_PER_HOUR)
        by_hour = until - since > SECONDS_PER_DAY
        usage = partial(self._archive.usage, since, until, record.run.key, by_hour=by_hour)
        spells = await self._ask(usage)
        step_seconds = SECONDS_PER_HOUR if by_hour else SECONDS_PER_MINUTE
        return json_response(series_to_json(record.run, spells, since, until, step_seconds))

    async def newest(self, limit: int) -> list[RunRecord]:
        """The runs that began last, newest first, on the page or not. Raises Refused(503)."""
        return await self._ask(partial(self._known, self.current().snapshot, limit, RunFilter()))

    async def find(self, run_id: str, query: Query) -> tuple[Snapshot, RunRecord]:
        """The latest tick, and the run that `run` means. Raises Refused(404)."""
        job_id = query_value(query, "job_id")
        wanted = RunFilter(run_id, job_id)
        snapshot = self.current().snapshot
        known = (*snapshot.runs, *snapshot.leaving)
        found = [record_of(snapshot, run) for run in known if wanted.has(run)]
        if not found:
            past = await self._ask(partial(self._archive.runs, MAX_LIMIT, wanted))
            found = _with_models(past, snapshot)
        if not found:
            of_job = "" if job_id is None else f" of job {job_id!r}"
            raise RequestRefused(
                404,
                f"no run {run_id!r}{of_job} is known on this machine; "
                "`emissions-exporter runs` lists those that are",
            )
        best = max(found, key=lambda record: (record.run.ended is None, record.run.started))
        return snapshot, best

    def devices(self) -> HttpResponse:
        """Every device with its sums, as the counters show them and since the ledger began."""
        return json_response(devices_to_json(self.current().view))

    def intensity(self) -> HttpResponse:
        """The grid intensity in force."""
        return json_response(intensity_to_json(self.current().snapshot))

    async def ledger(self) -> HttpResponse:
        """Which ledger the runs are kept in, by the id that was made with its file."""
        return json_response({"ledger_id": await self._ask(self._archive.ledger_id)})

    async def snapshot(self) -> HttpResponse:
        """All that is known of this tick, down to the lines of the books."""
        current = self.current()
        body = await self._rendered.get(
            current, "snapshot", lambda: json_bytes(snapshot_to_json(current.view))
        )
        return HttpResponse(200, body, JSON_TYPE)

    def _list(
        self,
        snapshot: Snapshot,
        limit: int,
        wanted: RunFilter,
        after: RunCursor | None,
        *,
        only_open: bool,
    ) -> bytes:
        found = self._known(snapshot, limit + 1, wanted, after, only_open=only_open)
        shown = found[:limit]
        last = shown[-1].run if len(found) > limit else None
        place = None if last is None else json.dumps([last.started, *last.key])
        return json_bytes({**runs_to_json(shown), "next": place, **_echoed(wanted)})

    def _known(
        self,
        snapshot: Snapshot,
        limit: int,
        wanted: RunFilter,
        after: RunCursor | None = None,
        *,
        only_open: bool = False,
    ) -> list[RunRecord]:
        on_page = [record for record in run_records(snapshot) if wanted.has(record.run)]
        found = [each for each in on_page if after is None or after.precedes(each.run)]
        if only_open:
            found = [record for record in found if record.run.ended is None]
        else:
            shown = {record.run.key for record in on_page}
            # As many more as may be on the page already.
            past = self._archive.runs(limit + len(shown), wanted, after)
            found += [r for r in _with_models(past, snapshot) if r.run.key not in shown]
        found.sort(key=lambda record: RunCursor.of(record.run).order)
        return found[:limit]

    def _add_up(self, snapshot: Snapshot, by: GroupBy, since: float, wanted: RunFilter) -> bytes:
        """What is on the page run by run, which the ledger may not have yet, and sums of the rest.

        A run that is on the page and began earlier is left out as well: it is not wanted.
        """
        on_page = run_records(snapshot)
        models = device_models(snapshot)
        keys = [record.run.key for record in on_page]
        sums = self._archive.sums(by, since, wanted, keys)
        runs = [r for r in on_page if wanted.has(r.run) and r.run.started >= since]
        found = {"sums": [totals_to_json(each, models) for each in sums], **runs_to_json(runs)}
        return json_bytes({**found, "next": None, **_echoed(wanted)})

    async def _ask(self, question: Callable[[], T]) -> T:
        """Ask the archive, off this thread. Raises Refused(503)."""
        try:
            return await self._questions.run(question, ARCHIVE_TIMEOUT_SECONDS)
        except TimeoutError:
            raise RequestRefused(
                503,
                f"the ledger did not answer in {ARCHIVE_TIMEOUT_SECONDS:g} s; is its disk well?",
            ) from None
        except LedgerError as error:
            raise RequestRefused(503, str(error)) from None


def _with_models(records: Iterable[RunRecord], snapshot: Snapshot) -> list[RunRecord]:
    """Records of the ledger, which knows ids alone, with what the devices are."""
    models = device_models(snapshot)
    return [record._replace(models=models) for record in records]


def _echoed(wanted: RunFilter) -> dict[str, str]:
    """What a client looks for, since a daemon of before ignores that it is asked for."""
    return {"namespace": wanted.namespace} if wanted.namespace else {}


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
            400, f"after={text:.50}: expected the `next` of an earlier answer"
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
        raise RequestRefused(400, f"{name}={text:.50}: expected seconds since the epoch")
    return moment


def query_value(query: Query, name: str) -> str | None:
    """The value of a name in a query, the last one if there are several."""
    values = query.get(name)
    return values[-1] if values else None
