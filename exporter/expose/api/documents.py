"""Conversion of the state to JSON documents: devices, account balances, grid, whole snapshot."""

import math
from collections.abc import Callable, Iterable

from exporter import units
from exporter.expose.snapshot_view import SnapshotView, Tallies, Tally
from exporter.model.intensity import Factor
from exporter.model.ledger import ZERO_AMOUNT, Amount, sum_amounts
from exporter.model.readings import GpuActivity
from exporter.model.record import RunRecord, UsageInterval
from exporter.model.record_document import record_to_json
from exporter.model.runs import DEPARTED_RUNS, RunInfo
from exporter.model.snapshot import (
    AccountSnapshot,
    DeviceState,
    IntensityState,
    Snapshot,
    record_of,
)
from exporter.model.workload import AttributionTarget, UnattributedReason

Document = dict[str, object]


def devices_to_json(view: SnapshotView) -> Document:
    """All devices with their sums since the counters began and since the ledger was created."""
    snapshot = view.snapshot
    return {
        "node": snapshot.node,
        "at": snapshot.wall,
        "devices": [_device_to_json(state, view) for state in snapshot.devices],
    }


def intensity_to_json(snapshot: Snapshot) -> Document:
    """The carbon intensity in effect, its last day, its forecast, and the state of its sources."""
    grid, now = snapshot.grid, snapshot.wall
    return {
        "at": now,
        **_grid_to_json(grid),
        "recent": [v._asdict() for v in grid.recent if v.end > now - units.SECONDS_PER_DAY],
        "forecast": [v._asdict() for v in grid.forecast if v.end > now],
        "second": None if grid.second is None else _grid_to_json(grid.second),
        "sources": [{**feed._asdict(), "requests": dict(feed.requests)} for feed in grid.feeds],
    }


def runs_to_json(records: Iterable[RunRecord]) -> Document:
    """Records of runs, in the order given."""
    return {"runs": [record_to_json(record) for record in records]}


def series_to_json(
    run: RunInfo, intervals: Iterable[UsageInterval], since: float, until: float, step_seconds: int
) -> Document:
    """Usage of a run over time; steps without usage are omitted."""
    points: dict[float, dict[str, Amount]] = {}
    for interval in intervals:
        kinds = points.setdefault(interval.at, {})
        kinds[interval.device.kind] = kinds.get(interval.device.kind, ZERO_AMOUNT).plus(
            interval.amount
        )
    return {
        "run_id": run.shown_id,
        "job_id": run.key.job_id,
        "since": since,
        "until": until,
        "step_seconds": step_seconds,
        "points": [_point_to_json(at, kinds, step_seconds) for at, kinds in points.items()],
    }


def _point_to_json(at: float, kinds: dict[str, Amount], step_seconds: int) -> Document:
    total = sum_amounts(kinds.values())
    return {
        "at": at,
        "power_watts": units.joules(total.energy_uj) / step_seconds,
        "energy_uj": total.energy_uj,
        "held_uj": total.held_uj,
        "carbon_ng": total.carbon_ng,
        "energy_uj_by_device": {kind: amount.energy_uj for kind, amount in kinds.items()},
    }


def snapshot_to_json(view: SnapshotView) -> Document:
    """The complete state of one tick, including the account balances."""
    snapshot = view.snapshot
    return {
        "tick": snapshot.tick,
        "at_ns": snapshot.at_ns,
        "interval_seconds": snapshot.interval_seconds,
        **devices_to_json(view),
        "lines": [_account_to_json(row) for row in snapshot.rows],
        **runs_to_json(run_records(snapshot)),
        "intensity": _grid_to_json(snapshot.grid),
        "collectors": [state._asdict() for state in snapshot.collectors],
        "health": snapshot.health._asdict(),
        "driver_calls": {name: cost._asdict() for name, cost in snapshot.driver_calls.items()},
        "notes": snapshot.notes,
    }


def run_records(snapshot: Snapshot) -> list[RunRecord]:
    """Return the records of all runs that are exported or that still have account balances."""
    rows: dict[AttributionTarget, list[AccountSnapshot]] = {}
    for row in snapshot.rows:
        rows.setdefault(row.target, []).append(row)
    return [
        record_of(snapshot._replace(rows=tuple(rows.get(run.key, ()))), run)
        for run in (*snapshot.runs, *snapshot.leaving)
    ]


def _device_to_json(state: DeviceState, view: SnapshotView) -> Document:
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
        "age_seconds": _finite_or_none(state.age_seconds),
        "read_at": _finite_or_none(view.snapshot.wall - state.age_seconds),
        "power_watts": state.power_watts,
        "power_limit_watts": info.power_limit_watts,
        "utilization": state.utilization,
        "sharing": None if state.activity is None else _gpu_sharing_to_json(state.activity),
        "events": state.events,
        "counted": _sums(view, info.device, _counted),
        "cumulative": _sums(view, info.device, _cumulative),
    }


def _gpu_sharing_to_json(activity: GpuActivity) -> Document:
    """GPU processes and partitions, and how completely the processes are known."""
    return {
        "processes": len(activity.gpu_processes),
        "coverage": activity.coverage,
        "slices": activity.slices,
        "partitions": [part._asdict() for part in activity.partitions],
        "why": activity.why,
    }


TallyAmounts = Callable[[Tally], tuple[int, int]]


def _counted(tally: Tally) -> tuple[int, int]:
    return tally.counted_uj, tally.counted_ng


def _cumulative(tally: Tally) -> tuple[int, int]:
    return tally.total_uj, tally.total_ng


def _sums(view: SnapshotView, device: tuple[str, str], amounts: TallyAmounts) -> Document:
    """Sums of one device: total, by reason, by method, and attributed energy by split."""
    energy_uj, carbon_ng = amounts(view.devices.get(device, Tally()))
    attributed_uj, attributed_ng = amounts(view.attributed.get(device, Tally()))

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
        "by_split_uj": by_last(view.by_split, 0),
    }


def _account_to_json(row: AccountSnapshot) -> Document:
    return {
        "device": row.device.kind,
        "id": row.device.id,
        "party": _target_to_json(row.target),
        "method": row.method,
        "split": row.split,
        "counted": row.balance.counted._asdict(),
        "cumulative": row.balance.total._asdict(),
        "power_watts": row.power_watts,
    }


def _target_to_json(target: AttributionTarget) -> Document:
    if isinstance(target, UnattributedReason):
        return {"reason": target}
    if target == DEPARTED_RUNS:
        return {"departed": True}
    return target._asdict()


def _grid_to_json(grid: IntensityState) -> Document:
    return {
        "why": grid.why,
        "age_seconds": _finite_or_none(grid.age_seconds),
        "factor": None if grid.factor is None else _factor_to_json(grid.factor),
    }


def _factor_to_json(factor: Factor) -> Document:
    return {
        **factor._asdict(),
        "valid_from": _finite_or_none(factor.valid_from),
        "valid_until": _finite_or_none(factor.valid_until),
    }


def _finite_or_none(number: float | None) -> float | None:
    """Return the number, or None for infinity, which JSON cannot represent."""
    return number if number is not None and math.isfinite(number) else None
