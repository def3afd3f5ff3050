"""Inner runs: runs started inside another run, whose record does not contain their energy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from exporter import formatting, units
from exporter.model.record import FIRST_TASK_LABEL, GROUP_LABEL
from exporter.report import quantities
from exporter.report.records import PART_KEYS, is_task, merge_rows, merge_units, sum_amounts

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


def with_other_tasks(
    record: Record, runs_of_group: Callable[[str], Iterable[Record]]
) -> dict[str, Any]:
    """Return the record of a first task with `other_tasks`, the sums of the tracker's later tasks.

    They are the tasks of a CodeCarbon tracker that was not started: its row in emissions.csv has
    the id of the first task. Other records are returned unchanged. `runs_of_group` lists the runs
    of a group.
    """
    labels = record.get("labels") or {}
    if not is_task(record) or FIRST_TASK_LABEL in labels:
        return dict(record)
    tasks = [
        run
        for run in runs_of_group(labels.get(GROUP_LABEL, ""))
        if (run.get("labels") or {}).get(FIRST_TASK_LABEL) == record["run_id"]
        and (run.get("uid"), run["job_id"]) == (record.get("uid"), record["job_id"])
    ]
    if not tasks:
        return dict(record)
    return {**record, "other_tasks": _sum_later_tasks(tasks)}


def merge_tasks(records: Sequence[Record]) -> list[Record]:
    """Return the records with each CodeCarbon tracker and its tasks as one, as in its row.

    The run of a tracker that was started is followed by runs of its tasks inside it; a tracker that
    was not started is its first task. Other records are returned unchanged, in the same order.
    """
    inside: dict[tuple[Any, ...], list[Record]] = {}
    later: dict[tuple[Any, ...], list[Record]] = {}
    for run in filter(is_task, records):
        if first := run["labels"].get(FIRST_TASK_LABEL):
            later.setdefault((run.get("uid"), first, run["job_id"]), []).append(run)
        elif outer := run.get("inside"):
            inside.setdefault((run.get("uid"), outer), []).append(run)
    merged: list[Record] = []
    members: set[int] = set()
    for record in records:
        tasks = [
            run
            for run in inside.get((record.get("uid"), record["run_id"]), ())
            if _is_task_of(run, record)
        ]
        others = later.get(_key(record), []) if is_task(record) else []
        members.update(map(id, (*tasks, *others)))
        merged.append(_with_tasks(record, tasks, others) if tasks or others else record)
    return [
        whole for record, whole in zip(records, merged, strict=True) if id(record) not in members
    ]


def _with_tasks(record: Record, tasks: Sequence[Record], others: Sequence[Record]) -> Record:
    """Return the record of a tracker with its tasks inside it, or with its later tasks."""
    every = [record, *tasks, *others]
    ends = [run["ended"] for run in every]
    whole = {
        **record,
        "ended": None if None in ends else max(ends),
        "at": max(run["at"] for run in every),
        "units": merge_units(every),
    }
    if tasks:
        whole["inner"] = {"tasks": _sum_runs(tasks)}
    if others:
        whole["other_tasks"] = _sum_later_tasks(others)
    whole = include_tasks(whole)
    return {**whole, "run_seconds": whole["duration_seconds"]} if others else whole


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


def _sum_later_tasks(tasks: Sequence[Record]) -> dict[str, Any]:
    """Return the sums of tasks that ran one after another and of their durations, and their end."""
    seconds = sum(run["duration_seconds"] for run in tasks)
    ends = [run["ended"] for run in tasks]
    ended = None if None in ends else max(ends)
    return {**_sum_runs(tasks), "duration_seconds": seconds, "ended": ended}


def _key(record: Record) -> tuple[Any, ...]:
    return record.get("uid"), record["run_id"], record["job_id"]


def include_inner(record: Record) -> dict[str, Any]:
    """Return the record of the run together with its inner runs and its tracker's other tasks.

    `inner_runs` and `more_tasks` are their numbers. The duration and the end are those of the run
    and of the other tasks; all other fields are those of the run itself.
    """
    inner, whole = record.get("inner"), _add_other_tasks(record)
    if not inner:
        return whole
    return {**_add(whole, inner), "inner_runs": inner["runs"]}


def include_tasks(record: Record) -> dict[str, Any]:
    """Return the record of a CodeCarbon tracker together with its tasks, as in its row."""
    tasks, whole = (record.get("inner") or {}).get("tasks"), _add_other_tasks(record)
    if "other_tasks" in record:  # the row has the name of the project, which is the group
        whole["name"] = record["labels"].get(GROUP_LABEL, whole.get("name", ""))
    return _add(whole, tasks) if tasks else whole


def _add_other_tasks(record: Record) -> dict[str, Any]:
    tasks = record.get("other_tasks")
    if not tasks:
        return dict(record)
    whole = {name: value for name, value in record.items() if name != "other_tasks"}
    seconds = record["duration_seconds"] + tasks["duration_seconds"]
    return {
        **_add(whole, tasks),
        "ended": tasks.get("ended", record.get("ended")),
        "duration_seconds": seconds,
        "more_tasks": tasks["runs"],
    }


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


def summary(record: Record) -> str:
    """Return a sentence with the sums including inner runs and other tasks; "" without any."""
    whole = include_inner(record)
    counts = [
        f"{whole[name]} {kind}{'s' if whole[name] > 1 else ''}"
        for name, kind in (("more_tasks", "other task"), ("inner_runs", "inner run"))
        if name in whole
    ]
    if not counts:
        return ""
    return (
        f" With its {' and '.join(counts)}, it used {formatting.energy(whole['energy_uj'])} and "
        f"emitted {quantities.carbon_text(whole)}."
    )


def rows(record: Record) -> list[tuple[str, str]]:
    """Return rows of a receipt: the sums with the other tasks, and with the inner runs."""
    rows = []
    if tasks := record.get("other_tasks"):
        count = "1 other task" if tasks["runs"] == 1 else f"{tasks['runs']} other tasks"
        total = _total_text(_add_other_tasks(record))
        rows.append(("with tasks", f"{total}; {count} of its tracker, counted separately"))
    if inner := record.get("inner"):
        count = "1 run" if inner["runs"] == 1 else f"{inner['runs']} runs"
        total = _total_text(include_inner(record))
        rows.append(("with inner", f"{total}; {count} inside it, counted separately"))
    return rows


def _total_text(whole: Record) -> str:
    joules = formatting.number(units.joules(whole["energy_uj"]))
    return f"{joules} J, {quantities.carbon_text(whole)} CO2eq"
