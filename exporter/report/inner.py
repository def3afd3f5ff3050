"""Inner runs: runs started inside another run, whose record does not contain their energy."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from exporter import formatting, units

Record = Mapping[str, Any]
AMOUNTS = ("energy_uj", "carbon_ng")


def with_inner(record: Record, runs_inside: Callable[[Record], Iterable[Record]]) -> dict[str, Any]:
    """Return the record with `inner`, the sums of all runs inside it, at any depth.

    `inner` is omitted if there is none. `runs_inside` lists the runs that started directly inside
    a run.
    """
    found: dict[tuple[Any, ...], Record] = {}
    waiting = [record]
    while waiting:
        outer = waiting.pop()
        for run in runs_inside(outer):
            # an older daemon, whose records have no `inside`, lists all runs
            if run.get("inside") and _key(run) not in found:
                found[_key(run)] = run
                waiting.append(run)
    found.pop(_key(record), None)
    if not found:
        return dict(record)
    sums = {name: sum(run[name] for run in found.values()) for name in AMOUNTS}
    return {**record, "inner": {"runs": len(found), **sums}}


def _key(record: Record) -> tuple[Any, ...]:
    return record.get("uid"), record["run_id"], record["job_id"]


def rows(record: Record) -> list[tuple[str, str]]:
    """Return the row of a receipt with the sum of the run and its inner runs."""
    inner = record.get("inner")
    if not inner:
        return []
    energy_uj, carbon_ng = (record[name] + inner[name] for name in AMOUNTS)
    count = "1 run" if inner["runs"] == 1 else f"{inner['runs']} runs"
    total = f"{formatting.number(units.joules(energy_uj))} J, {formatting.carbon(carbon_ng)} CO2eq"
    return [("with inner", f"{total}; {count} inside it, counted separately")]
