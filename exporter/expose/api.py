"""The state as JSON: runs, devices, grid intensity, and the whole snapshot, in exact integers."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

from exporter import units
from exporter.errors import LedgerError, Refused
from exporter.expose.board import Board, Current
from exporter.expose.http1 import Response, json_response
from exporter.expose.view import Tallies, Tally, View
from exporter.model.intensity import Factor
from exporter.model.record import Archive, RunRecord, to_json
from exporter.model.runs import DEPARTED
from exporter.model.snapshot import (
    DeviceState,
    GridState,
    Row,
    Snapshot,
    record_of,
    run_power_watts,
)
from exporter.model.workload import Party, Reason

DEFAULT_LIMIT = 100
LIMIT_MOST = 10_000
ARCHIVE_SECONDS = 5.0

Query = Mapping[str, list[str]]


class Api:
    """Answers questions about the state now, and about runs that have left the page."""

    def __init__(self, board: Board, archive: Archive) -> None:
        self._board = board
        self._archive = archive

    def current(self) -> Current:
        """The latest tick. Raises Refused(503) before the first."""
        current = self._board.current
        if current is None:
            raise Refused(503, "the first look at the machine is not done yet; try again")
        return current

    async def runs(self, query: Query) -> Response:
        """Runs, newest first: `state=open` for those that are open, `limit` for how many."""
        limit = _limit(query)
        state = _one(query, "state")
        if state not in (None, "open"):
            raise Refused(400, f"state={state}: only state=open is known")
        found = records(self.current().snapshot)
        if state == "open":
            found = [record for record in found if record.run.ended is None]
        else:
            shown = {record.run.key for record in found}
            past = await self._ask(lambda: self._archive.runs(limit))
            found += [record for record in past if record.run.key not in shown]
        found.sort(key=lambda record: record.run.started, reverse=True)
        return json_response({"runs": [to_json(record) for record in found[:limit]]})

    async def run(self, run_id: str, query: Query) -> Response:
        """The run that is shown under an id; with `job_id`, that job's.

        Of several an open one is meant, then the newest.
        """
        job_id = _one(query, "job_id")

        def is_meant(record: RunRecord) -> bool:
            run = record.run
            return run.shown_id == run_id and job_id in (None, run.key.job_id)

        found = [record for record in records(self.current().snapshot) if is_meant(record)]
        if not found:
            found = [r for r in await self._ask(lambda: self._archive.find(run_id)) if is_meant(r)]
        if not found:
            of_job = "" if job_id is None else f" of job {job_id!r}"
            raise Refused(404, f"no run {run_id!r}{of_job} is known on this machine")
        best = max(found, key=lambda record: (record.run.ended is None, record.run.started))
        snapshot = self.current().snapshot
        return json_response({**to_json(best), "power_watts": run_power_watts(snapshot, best.run)})

    def devices(self) -> Response:
        """Every device with its sums, as the counters show them and since the ledger began."""
        snapshot, view, _ = self.current()
        return json_response(
            {
                "node": snapshot.node,
                "at": snapshot.wall,
                "devices": [_device(state, view) for state in snapshot.devices],
            }
        )

    def intensity(self) -> Response:
        """The grid intensity in force."""
        snapshot = self.current().snapshot
        return json_response({"at": snapshot.wall, **_grid(snapshot.grid)})

    def snapshot(self) -> Response:
        """All that is known of this tick, down to the lines of the books."""
        snapshot, view, _ = self.current()
        return json_response(
            {
                "tick": snapshot.tick,
                "at_ns": snapshot.at_ns,
                "at": snapshot.wall,
                "node": snapshot.node,
                "interval_seconds": snapshot.interval_seconds,
                "devices": [_device(state, view) for state in snapshot.devices],
                "lines": [_line(row) for row in snapshot.rows],
                "runs": [to_json(record) for record in records(snapshot)],
                "intensity": _grid(snapshot.grid),
                "collectors": [state._asdict() for state in snapshot.collectors],
                "health": snapshot.health._asdict(),
                "notes": snapshot.notes,
            }
        )

    async def _ask(self, question: Callable[[], Sequence[RunRecord]]) -> Sequence[RunRecord]:
        """Ask the archive, off this thread. Raises Refused(503)."""
        try:
            async with asyncio.timeout(ARCHIVE_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(None, question)
        except TimeoutError:
            raise Refused(
                503, f"the ledger did not answer in {ARCHIVE_SECONDS:g} s; is its disk well?"
            ) from None
        except LedgerError as error:
            raise Refused(503, str(error)) from None


def records(snapshot: Snapshot) -> list[RunRecord]:
    """The record of every run that the snapshot shows."""
    rows: dict[Party, list[Row]] = {}
    for row in snapshot.rows:
        rows.setdefault(row.party, []).append(row)
    return [
        record_of(snapshot._replace(rows=tuple(rows.get(run.key, ()))), run)
        for run in snapshot.runs
    ]


def _limit(query: Query) -> int:
    text = _one(query, "limit")
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= LIMIT_MOST):
        raise Refused(400, f"limit={text}: expected a number from 1 to {LIMIT_MOST}")
    return int(text)


def _one(query: Query, name: str) -> str | None:
    values = query.get(name)
    return values[-1] if values else None


def _device(state: DeviceState, view: View) -> dict[str, object]:
    info = state.info
    return {
        "device": info.device.kind,
        "id": info.device.id,
        "model": info.model,
        "vendor": info.vendor,
        "source": info.source,
        "method": info.method,
        "index": info.ordinal,
        "pci_bus_id": info.pci_bus_id,
        "up": state.up,
        "why": state.why,
        "age_seconds": _finite(state.age_seconds),
        "read_at": _finite(view.snapshot.wall - state.age_seconds),
        "power_watts": state.power_watts,
        "power_limit_watts": info.power_limit_watts,
        "events": state.events,
        "counted": _sums(view, info.device, _counted),
        "cumulative": _sums(view, info.device, _cumulative),
    }


Amounts = Callable[[Tally], tuple[int, int]]


def _counted(tally: Tally) -> tuple[int, int]:
    return tally.counted_uj, tally.counted_ng


def _cumulative(tally: Tally) -> tuple[int, int]:
    return tally.total_uj, tally.total_ng


def _sums(view: View, device: tuple[str, str], amounts: Amounts) -> dict[str, object]:
    """What a device used: all, by run or reason, and by method; each in both its spellings."""
    energy_uj, carbon_ng = amounts(view.devices[device])
    attributed_uj, attributed_ng = amounts(view.attributed[device])

    def by_last(tallies: Tallies, index: int) -> dict[str, int]:
        return {
            labels[-1]: amounts(tally)[index]
            for labels, tally in tallies.items()
            if labels[:2] == device
        }

    return {
        "energy_uj": energy_uj,
        "energy_joules": units.joules(energy_uj),
        "carbon_ng": carbon_ng,
        "carbon_grams": units.grams(carbon_ng),
        "attributed_uj": attributed_uj,
        "attributed_ng": attributed_ng,
        "unattributed_uj": by_last(view.unattributed, 0),
        "unattributed_ng": by_last(view.unattributed, 1),
        "by_method_uj": by_last(view.by_method, 0),
    }


def _line(row: Row) -> dict[str, object]:
    return {
        "device": row.device.kind,
        "id": row.device.id,
        "party": _party(row.party),
        "method": row.method,
        "split": row.split,
        "counted": row.balance.counted._asdict(),
        "cumulative": row.balance.total._asdict(),
        "power_watts": row.power_watts,
    }


def _party(party: Party) -> dict[str, object]:
    if isinstance(party, Reason):
        return {"reason": party}
    if party == DEPARTED:
        return {"departed": True}
    return party._asdict()


def _grid(grid: GridState) -> dict[str, object]:
    return {
        "why": grid.why,
        "age_seconds": _finite(grid.age_seconds),
        "factor": None if grid.factor is None else _factor(grid.factor),
    }


def _factor(factor: Factor) -> dict[str, object]:
    return {
        **factor._asdict(),
        "valid_from": _finite(factor.valid_from),
        "valid_until": _finite(factor.valid_until),
    }


def _finite(number: float | None) -> float | None:
    """JSON has no infinity; what has no end or no time is null."""
    return number if number is not None and math.isfinite(number) else None
