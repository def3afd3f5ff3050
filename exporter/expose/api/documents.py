"""The state spelled as JSON-ready values: devices, lines of the books, grid, the whole snapshot."""

import math
from collections.abc import Callable, Iterable

from exporter import units
from exporter.expose.snapshot_view import SnapshotView, Tallies, Tally
from exporter.model.intensity import Factor
from exporter.model.ledger import ZERO_AMOUNT, Amount, sum_amounts
from exporter.model.readings import GpuActivity
from exporter.model.record import RunRecord, UsageInterval, record_to_json
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
    """Every device with its sums, as the counters show them and since the ledger began."""
    snapshot = view.snapshot
    return {
        "node": snapshot.node,
        "at": snapshot.wall,
        "devices": [_device_to_json(state, view) for state in snapshot.devices],
    }


def intensity_to_json(snapshot: Snapshot) -> Document:
    """The grid intensity in force, its last day, its forecast, and how its sources fare."""
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
    """Runs in the order given."""
    return {"runs": [record_to_json(record) for record in records]}


def series_to_json(
    run: RunInfo, spells: Iterable[UsageInterval], since: float, until: float, step_seconds: int
) -> Document:
    """What a run used over time; steps in which it used nothing are left out."""
    points: dict[float, dict[str, Amount]] = {}
    for spell in spells:
        kinds = points.setdefault(spell.at, {})
        kinds[spell.device.kind] = kinds.get(spell.device.kind, ZERO_AMOUNT).plus(spell.amount)
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
    """All that is known of this tick, down to the lines of the books."""
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
    """The record of every run that the snapshot shows, or whose lines it still has."""
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


def _gpu_sharing_to_json(look: GpuActivity) -> Document:
    """Who is on a GPU, and how well that is known."""
    return {
        "processes": len(look.gpu_processes),
        "coverage": look.coverage,
        "slices": look.slices,
        "partitions": [part._asdict() for part in look.partitions],
        "why": look.why,
    }


TallyAmounts = Callable[[Tally], tuple[int, int]]


def _counted(tally: Tally) -> tuple[int, int]:
    return tally.counted_uj, tally.counted_ng


def _cumulative(tally: Tally) -> tuple[int, int]:
    return tally.total_uj, tally.total_ng


def _sums(view: SnapshotView, device: tuple[str, str], amounts: TallyAmounts) -> Document:
    """What a device used: all, by run or reason, by method, and what runs used by split."""
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
    """JSON has no infinity; what has no end or no time is null."""
    return number if number is not None and math.isfinite(number) else None
