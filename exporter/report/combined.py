"""Several records as one: the runs of a job, of a sweep, of a user."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from exporter import units
from exporter.model.runs import REPLAY

Record = Mapping[str, Any]
AMOUNTS = ("energy_uj", "held_uj", "carbon_ng")


def combined(records: Sequence[Record], title: str) -> dict[str, Any]:
    """The sums of at least one record. What an inner run used is in no other, so nothing is double.

    Times are those of the first start and the last end; it is open as long as one of them is.
    """
    started = min(record["started"] for record in records)
    ends = [record["ended"] for record in records]
    ended = None if None in ends else max(ends)
    until = max(record["at"] for record in records) if ended is None else ended
    sums = _sums(records)
    origins = {str(record.get("origin", "")) for record in records}
    return {
        "version": records[0]["version"],
        "run_id": title,
        "job_id": "",
        "origin": REPLAY if REPLAY in origins else origins.pop() if len(origins) == 1 else "",
        "node": ", ".join(sorted({record["node"] for record in records})),
        "started": started,
        "ended": ended,
        "at": max(record["at"] for record in records),
        "duration_seconds": until - started,
        "runs": len(records),
        **sums,
        "energy_joules": units.joules(sums["energy_uj"]),
        "carbon_grams": units.grams(sums["carbon_ng"]),
        "parts": _merged(records, "parts", ("device", "id", "method", "split")),
        "intensity": _merged(records, "intensity", None),
        "units": _units(records),
    }


def _sums(records: Iterable[Record]) -> dict[str, int]:
    sums = dict.fromkeys(AMOUNTS, 0)
    for record in records:
        for name in AMOUNTS:
            sums[name] += record[name]
    return sums


def _merged(
    records: Iterable[Record], name: str, keys: tuple[str, ...] | None
) -> list[dict[str, Any]]:
    """The rows of all, those with equal keys (None: with all else equal) added up."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for record in records for row in record[name]):
        facts = {k: v for k, v in row.items() if k not in AMOUNTS}
        key = tuple(facts.values()) if keys is None else tuple(row[k] for k in keys)
        known = rows.setdefault(key, {**facts, **{a: 0 for a in AMOUNTS if a in row}})
        for amount in AMOUNTS:
            if amount in row:
                known[amount] += row[amount]
    return list(rows.values())


def _units(records: Iterable[Record]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for record in records:
        for name, amount in record.get("units", {}).items():
            amounts[name] = amounts.get(name, 0) + amount
    return amounts
