"""Inner runs: runs started inside another run, whose record does not contain their energy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.report import quantities
from exporter.report.records import PART_KEYS, is_task, merge_rows, sum_amounts

Record = Mapping[str, Any]


def with_inner(record: Record, runs_inside: Callable[[Record], Iterable[Record]]) -> dict[str, Any]:
    """Return the record with `inner`, the sums of all runs inside it, at any depth.

    `inner` is omitted if there is none. Its `tasks` are the sums of the tasks of a CodeCarbon
    tracker, if the record is that of the tracker. `runs_inside` lists the runs that started
    directly inside a run.
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
    tasks = [run for run in found.values() if _is_task_of(run, record)]
    inner = _sum_runs(list(found.values()))
    return {**record, "inner": {**inner, **({"tasks": _sum_runs(tasks)} if tasks else {})}}


def _is_task_of(run: Record, tracker: Record) -> bool:
    """Whether a run is a task of the tracker with this record."""
    group = (tracker.get("labels") or {}).get("group")
    is_inside = run["inside"] == tracker["run_id"]
    return is_inside and is_task(run) and run["labels"].get("group") == group


def _sum_runs(runs: Sequence[Record]) -> dict[str, Any]:
    return {
        "runs": len(runs),
        **sum_amounts(runs),
        "parts": merge_rows(runs, "parts", PART_KEYS),
        "intensity": merge_rows(runs, "intensity", None),
    }


def _key(record: Record) -> tuple[Any, ...]:
    return record.get("uid"), record["run_id"], record["job_id"]


def include_inner(record: Record) -> dict[str, Any]:
    """Return the record of the run together with its inner runs; `inner_runs` is their number.

    The duration and all other fields are those of the run itself.
    """
    inner = record.get("inner")
    if not inner:
        return dict(record)
    return {**_add(record, inner), "inner_runs": inner["runs"]}


def include_tasks(record: Record) -> dict[str, Any]:
    """Return the record of a CodeCarbon tracker together with its tasks, as in its row."""
    tasks = (record.get("inner") or {}).get("tasks")
    return _add(record, tasks) if tasks else dict(record)


def _add(record: Record, sums: Record) -> dict[str, Any]:
    """Add sums to a record. Those of an older version have no parts and intensities."""
    both = [record, {"parts": [], "intensity": [], "held_uj": 0, **sums}]
    amounts = sum_amounts(both)
    return {
        **{name: value for name, value in record.items() if name != "inner"},
        **amounts,
        "energy_joules": units.joules(amounts["energy_uj"]),
        "carbon_grams": units.grams(amounts["carbon_ng"]),
        "parts": merge_rows(both, "parts", PART_KEYS),
        "intensity": merge_rows(both, "intensity", None),
    }


def count_text(count: int) -> str:
    """Return the number of inner runs as text."""
    return "1 inner run" if count == 1 else f"{count} inner runs"


def rows(record: Record) -> list[tuple[str, str]]:
    """Return the row of a receipt with the sum of the run and its inner runs."""
    inner = record.get("inner")
    if not inner:
        return []
    whole = include_inner(record)
    count = "1 run" if inner["runs"] == 1 else f"{inner['runs']} runs"
    joules = formatting.number(units.joules(whole["energy_uj"]))
    total = f"{joules} J, {quantities.carbon_text(whole)} CO2eq"
    return [("with inner", f"{total}; {count} inside it, counted separately")]
