"""Reading, validating and summing records of runs."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from exporter import units
from exporter.errors import ConfigError
from exporter.model.record import GROUP_LABEL, TASK_LABEL, VERSION
from exporter.model.record_document import RECORD_SCHEMA
from exporter.model.record_schema import Schema
from exporter.model.runs import REPLAY
from exporter.report import quantities

Record = Mapping[str, Any]
AMOUNTS = ("energy_uj", "held_uj", "carbon_ng")
PART_KEYS = ("device", "id", "method", "split")
"""Fields that identify a part of a record of one node."""


def combine_records(records: Sequence[Record], title: str) -> dict[str, Any]:
    """Sum one or more records of runs, or sums of runs.

    Records do not contain energy of inner runs: nothing counts twice. The sum begins with the first
    start and ends with the last end; it is open while one run is. `run_seconds` are the durations
    of the runs, without those that ran inside another one; a sum of an older daemon does not have
    them, and counts with its span.
    """
    started = min(record["started"] for record in records)
    ends = [record["ended"] for record in records]
    ended = None if None in ends else max(ends)
    until = max(record["at"] for record in records) if ended is None else ended
    sums = sum_amounts(records)
    origins = {str(record.get("origin", "")) for record in records}
    return {
        "version": records[0]["version"],
        "run_id": title,
        "job_id": "",
        "user": _common(records, "user"),
        "account": _common(records, "account"),
        "origin": REPLAY if REPLAY in origins else origins.pop() if len(origins) == 1 else "",
        "node": ", ".join(sorted({record["node"] for record in records})),
        "started": started,
        "ended": ended,
        "at": max(record["at"] for record in records),
        "duration_seconds": until - started,
        "run_seconds": _run_seconds(records),
        "runs": len(records),
        "unseen_runs": sum(map(quantities.unseen_runs, records)),
        **sums,
        "energy_joules": units.joules(sums["energy_uj"]),
        "carbon_grams": units.grams(sums["carbon_ng"]),
        "parts": merge_rows(records, "parts", PART_KEYS),
        "intensity": merge_rows(records, "intensity", None),
        "units": merge_units(records),
    }


def _common(records: Sequence[Record], name: str) -> str:
    """Return the value of a field that all records have in common, else ""."""
    values = {str(record.get(name) or "") for record in records}
    return values.pop() if len(values) == 1 else ""


def _run_seconds(records: Sequence[Record]) -> float:
    ids = {record.get("run_id") for record in records} - {None}
    outer = (record for record in records if record.get("inside") not in ids)
    return float(
        sum(
            record.get("run_seconds", (record["ended"] or record["at"]) - record["started"])
            for record in outer
        )
    )


def sum_amounts(records: Iterable[Record]) -> dict[str, int]:
    """Return the sums of energy, held idle energy and carbon of records."""
    sums = dict.fromkeys(AMOUNTS, 0)
    for record in records:
        for name in AMOUNTS:
            sums[name] += record[name]
    return sums


def merge_rows(
    records: Iterable[Record], name: str, keys: tuple[str, ...] | None
) -> list[dict[str, Any]]:
    """Merge the rows of all records; rows with equal keys (None: all other fields) are summed."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for record in records for row in record[name]):
        facts = {k: v for k, v in row.items() if k not in AMOUNTS}
        key = tuple(facts.values()) if keys is None else tuple(row.get(k) for k in keys)
        merged = rows.setdefault(key, {**facts, **{a: 0 for a in AMOUNTS if a in row}})
        for amount in AMOUNTS:
            if amount in row:
                merged[amount] = merged.get(amount, 0) + row[amount]
    return list(rows.values())


def merge_units(records: Iterable[Record]) -> dict[str, float]:
    """Return the sums of the units that the runs counted."""
    amounts: dict[str, float] = {}
    for record in records:
        for name, amount in record.get("units", {}).items():
            amounts[name] = amounts.get(name, 0) + amount
    return amounts


MAX_FILE_CHARACTERS = 64 << 20


def read_records(path: str) -> list[dict[str, Any]]:
    """Read a JSON file: one record, a list of records, or a response of the HTTP API.

    Raises ConfigError with the file, the record and the error.
    """
    document = _document(path)
    if isinstance(document, dict) and isinstance(document.get("runs"), list):
        document = document["runs"]
    found = document if isinstance(document, list) else [document]
    return [validate_record(record, f"{path}: record {n}") for n, record in enumerate(found, 1)]


def validate_record(record: Any, where: str) -> dict[str, Any]:
    """Check that a document is a record with the fields that readers need. Raises ConfigError.

    Fields that are not required may also be null. Unknown fields are ignored.
    """
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ConfigError(f"{where}: is not a run record of version {VERSION}")
    if error := _mismatch(record, RECORD_SCHEMA, "record"):
        raise ConfigError(f"{where}: {error}")
    return record


def _document(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_FILE_CHARACTERS + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text") from None
    if len(text) > MAX_FILE_CHARACTERS:
        raise ConfigError(f"{path}: is too large for a file of records")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not JSON: {error}") from None


def _mismatch(value: Any, schema: Schema, name: str) -> str:
    """Return where and how the value of a field differs from its schema; "" if it does not."""
    if (error := _own_error(value, schema, name)) or not isinstance(value, list | dict):
        return error
    if isinstance(value, list):
        errors = (_mismatch(each, schema["items"], name) for each in value)
        error = next(filter(None, errors), "")
        return error.replace("expected ", "expected a list of ") if _is_own(error) else error
    required = REQUIRED.get(name, schema.get("required", ()))
    if name == "intensity" and "zone" not in value:
        return "zone: expected a text or null"
    if name == "intensity" and value.get("zone") is not None:
        required = (*required, *REQUIRED_WITH_ZONE)
    fields = schema.get("properties") or dict.fromkeys(value, schema.get("additionalProperties"))
    for key, expected in fields.items():
        found, is_required = value.get(key), key in required
        if expected is None or (found is None and not is_required):
            continue
        if error := _mismatch(found, expected, key):
            return f"{key}: {error}{', if any' if _is_own(error) and not is_required else ''}"
    return ""


def _own_error(value: Any, schema: Schema, name: str) -> str:
    """Return how a value differs from its schema, without the values inside it."""
    kinds = schema.get("type", "string" if "enum" in schema else ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(IS_OF_TYPE[kind](value) for kind in kinds):
        return f"expected {' or '.join(TYPE_NAMES[kind] for kind in kinds if kind != 'null')}"
    if "minimum" in schema and value is not None and value > MAX_AMOUNT:
        return f"expected a number of at most {MAX_AMOUNT:g}"
    if name in TIMES and value is not None and not 0 <= value <= MAX_UNIX_SECONDS:
        return "expected a number of seconds since 1970"
    return ""


def _is_own(error: str) -> bool:
    """Whether an error is of the value itself, not of one inside it."""
    return error.startswith("expected")


def _is_number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


MAX_AMOUNT = 1e30
"""Sums of such amounts are numbers that a float can hold."""
MAX_UNIX_SECONDS = 1e11
TIMES = ("started", "ended", "at", "end")
IS_OF_TYPE: Mapping[str, Callable[[Any], bool]] = {
    "number": _is_number,
    "integer": _is_number,  # also written as 1e6
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
TYPE_NAMES = {
    **dict.fromkeys(("number", "integer"), "a number"),
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "names with values",
}
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "record": (
        *("energy_uj", "held_uj", "carbon_ng", "started", "at", "duration_seconds"),
        *("run_id", "job_id", "node", "parts", "intensity"),
    ),
    "parts": ("device", "id", "energy_uj"),
    "intensity": ("energy_uj",),
    "boundary": (),
}
"""Fields that readers need; records of older daemons lack others that the schema requires."""
REQUIRED_WITH_ZONE = ("source", "grams_per_kwh", "pue", "basis")


def is_task(record: Record) -> bool:
    """Whether a run is a task of a CodeCarbon tracker."""
    labels = record.get("labels") or {}
    group = labels.get(GROUP_LABEL, "")
    return TASK_LABEL in labels and str(record.get("name", "")).startswith(f"{group}: ")
