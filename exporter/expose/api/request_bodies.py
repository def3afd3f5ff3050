"""Parsing and validation of the bodies of requests to the agent socket."""

import json
import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, TypeVar

from exporter.errors import RequestRefused
from exporter.model.commands import ImportRuns, LogRun
from exporter.model.intensity import Basis, Factor
from exporter.model.ledger import Amount, FactorUse, sum_amounts
from exporter.model.readings import PART_KINDS, Device, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.runs import IMPORTED_UID, NO_UID, REGISTERED, RunInfo, RunKey
from exporter.model.workload import SplitMethod

MAX_TEXT_BYTES = 1024
MAX_LABELS = 32
MAX_LABELS_BYTES = 2048
"""Limit for the names and values of all labels together."""
MAX_NAMES = 64
"""Limit for the results, or units, in one body."""
MAX_NODES = 1_000_000
MAX_EXACT_FLOAT = 2.0**53
SCOPES = ("tree", "cgroup", "machine")
START_KEYS = ("run_id", "job_id", "name", "labels", "scope", "budget_grams", "nodes")
LOG_KEYS = ("job_id", "values", "count", "progress")


def parse_start(body: bytes) -> RunInfo:
    """Parse a request to start a run; the caller adds the peer's identity.

    Raises RequestRefused(400).
    """
    document = parse_object(body, START_KEYS)
    scope = _text_field(document, "scope", "tree")
    if scope not in SCOPES:
        raise RequestRefused(400, f"scope: expected {', '.join(SCOPES)}, found {scope!r}")
    run_id, job_id = (_text_field(document, name, "") for name in ("run_id", "job_id"))
    return RunInfo(
        RunKey(NO_UID, run_id, job_id),
        name=_text_field(document, "name", ""),
        user="",
        origin=REGISTERED,
        started=0.0,
        scope=scope,
        labels=validate_labels(document.get("labels", {})),
        budget_grams=_parse_budget(document.get("budget_grams")),
        nodes=_parse_nodes(document.get("nodes")),
    )


def parse_log(body: bytes) -> LogRun:
    """Parse a request to update a run; the caller adds the run's key.

    Raises RequestRefused(400).
    """
    document = parse_object(body, LOG_KEYS)
    done, total = _parse_progress(document.get("progress"))
    return LogRun(
        uid=-1,
        run_id="",
        job_id=None if document.get("job_id") is None else _text_field(document, "job_id", ""),
        values=tuple(_parse_value(*pair) for pair in _named_items(document, "values")),
        counts=tuple(_parse_count(*pair) for pair in _named_items(document, "count")),
        done=done,
        total=total,
    )


def parse_end(body: bytes) -> str | None:
    """Parse a request to end a run and return its job id, if any. Raises RequestRefused(400)."""
    document = parse_object(body or b"{}", ("job_id",))
    return None if document.get("job_id") is None else _text_field(document, "job_id", "")


def parse_object(body: bytes, keys: tuple[str, ...]) -> dict[str, Any]:
    """Parse a JSON object with no keys other than `keys`. Raises RequestRefused(400)."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestRefused(400, f"the body is not a JSON object with keys of {', '.join(keys)}")
    if unknown := [key for key in document if key not in keys]:
        raise RequestRefused(400, f"{unknown[0]!r:.100}: unknown key; expected {', '.join(keys)}")
    return document


def _text_field(document: dict[str, Any], key: str, default: str) -> str:
    return validate_text(key, document.get(key, default))


def validate_text(what: str, value: Any) -> str:
    """Check and return a text; `what` names it in errors. Raises RequestRefused(400)."""
    if not isinstance(value, str):
        raise RequestRefused(400, f"{what}: expected a string, found {value!r:.100}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise RequestRefused(400, f"{what}: is not valid Unicode; write it in UTF-8") from None
    if size > MAX_TEXT_BYTES:
        raise RequestRefused(
            400, f"{what}: has {size} bytes, the limit is {MAX_TEXT_BYTES}; shorten it"
        )
    if "\0" in value:
        raise RequestRefused(400, f"{what}: contains a NUL character; remove it")
    return value


def validate_labels(value: Any) -> tuple[tuple[str, str], ...]:
    """Check and return labels, in the order given. Raises RequestRefused(400)."""
    if not isinstance(value, dict):
        raise RequestRefused(400, f"labels: expected an object of strings, found {value!r:.100}")
    if len(value) > MAX_LABELS:
        raise RequestRefused(400, f"labels: has {len(value)} labels, the limit is {MAX_LABELS}")
    pairs = tuple(
        (validate_text("labels", key), validate_text(f"labels.{key:.100}", text))
        for key, text in value.items()
    )
    size = sum(len(text.encode()) for pair in pairs for text in pair)
    if size > MAX_LABELS_BYTES:
        raise RequestRefused(
            400, f"labels: has {size} bytes in total, the limit is {MAX_LABELS_BYTES}"
        )
    return pairs


def _parse_budget(value: Any) -> float | None:
    return None if value is None else validate_amount("budget_grams", value)


def _parse_nodes(value: Any) -> int:
    if value is None:
        return 0
    if type(value) is not int or not 1 <= value <= MAX_NODES:
        raise RequestRefused(
            400, f"nodes: expected a whole number from 1 to {MAX_NODES}, found {value!r:.50}"
        )
    return value


def _named_items(document: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise RequestRefused(400, f"{key}: expected an object, found {value!r:.100}")
    if len(value) > MAX_NAMES:
        raise RequestRefused(400, f"{key}: has {len(value)} entries, the limit is {MAX_NAMES}")
    return [(_validate_name(key, name), item) for name, item in value.items()]


def _validate_name(what: str, name: str) -> str:
    if not validate_text(what, name).strip():
        raise RequestRefused(400, f"{what}: has an empty name; set one")
    return name


def _parse_value(name: str, value: Any) -> tuple[str, float | str]:
    if isinstance(value, str):
        return name, validate_text(f"values.{name:.100}", value)
    return name, _finite_number(f"values.{name:.100}", value)


def _parse_count(unit: str, amount: Any) -> tuple[str, float]:
    return unit, validate_amount(f"count.{unit:.100}", amount)


def _parse_progress(value: Any) -> tuple[float | None, float]:
    if value is None:
        return None, 0.0
    if not isinstance(value, dict) or set(value) != {"done", "total"}:
        raise RequestRefused(
            400, f"progress: expected an object with done and total, found {value!r:.100}"
        )
    done = validate_amount("progress.done", value["done"])
    return done, validate_amount("progress.total", value["total"])


def validate_amount(what: str, value: Any) -> float:
    """Check and return a number of at least 0, small enough for exact sums."""
    number = _finite_number(what, value)
    if number > MAX_EXACT_FLOAT:
        raise RequestRefused(400, f"{what}: number too large")
    if number < 0:
        raise RequestRefused(400, f"{what}: expected a number of at least 0, found {value!r:.100}")
    return number


def _finite_number(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestRefused(400, f"{what}: expected a number, found {value!r:.100}")
    try:
        number = float(value)
    except OverflowError:
        raise RequestRefused(400, f"{what}: number too large") from None
    if not math.isfinite(number):
        raise RequestRefused(400, f"{what}: expected a finite number, found {value!r:.100}")
    return number


ORIGINS = ("codecarbon",)
MAX_RUNS = 100
MAX_ROWS = 16
"""Limit for the parts, or intensities, of one run."""
MAX_AMOUNT = 10**18
"""Limit in microjoules, or nanograms (a thousand tonnes)."""
MAX_UNIX_SECONDS = 1e11
END_REASON = "ended"
IMPORTED_RUN_KEYS = ("run_id", "name", "labels", "scope", "started", "ended", "parts", "intensity")
E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def parse_import(body: bytes, user: str) -> ImportRuns:
    """Parse a request to import runs, as runs of `user`. Raises RequestRefused(400)."""
    document = parse_object(body, ("origin", "runs"))
    origin = document.get("origin")
    if origin not in ORIGINS:
        raise RequestRefused(400, f"origin: expected {', '.join(ORIGINS)}, found {origin!r:.50}")
    runs = _parse_list(
        "runs", document.get("runs"), MAX_RUNS, lambda what, run: _parse_record(what, run, origin)
    )
    return ImportRuns(
        tuple(each._replace(run=each.run._replace(user=user, origin=origin)) for each in runs)
    )


def _parse_record(what: str, run: dict[str, Any], origin: str) -> RunRecord:
    if unknown := [key for key in run if key not in IMPORTED_RUN_KEYS]:
        raise RequestRefused(400, f"{what}.{unknown[0]:.50}: unknown key")
    run_id = validate_text(f"{what}.run_id", run.get("run_id"))
    started = validate_amount(f"{what}.started", run.get("started"))
    ended = validate_amount(f"{what}.ended", run.get("ended"))
    if not run_id or run.get("scope") not in SCOPES or not started <= ended <= MAX_UNIX_SECONDS:
        raise RequestRefused(400, f"{what}: expected a run_id, a scope, and an end after the start")
    info = RunInfo(
        RunKey(IMPORTED_UID, run_id, ""),
        validate_text(f"{what}.name", run.get("name", "")),
        user="",
        origin="",
        started=started,
        ended=ended,
        end_reason=END_REASON,
        scope=run["scope"],
        labels=validate_labels(run.get("labels", {})),
        shown_id=run_id,
    )
    parts = _parse_list(
        f"{what}.parts", run.get("parts"), MAX_ROWS, lambda at, row: _parse_part(at, row, origin)
    )
    uses = _parse_list(f"{what}.intensity", run.get("intensity"), MAX_ROWS, _parse_factor_use)
    _check_sums(what, parts, uses)
    return RunRecord(info, parts, uses, at=ended, node="")


def _parse_part(what: str, row: dict[str, Any], origin: str) -> RecordPart:
    """Parse a part of a run; its device is not a device of this machine."""
    return RecordPart(
        Device(_parse_enum(PART_KINDS, what, row, "device"), origin),
        _parse_enum(Method, what, row, "method"),
        _parse_enum(SplitMethod, what, row, "split"),
        Amount(_parse_amount(what, row, "energy_uj"), 0, _parse_amount(what, row, "carbon_ng")),
    )


def _parse_factor_use(what: str, row: dict[str, Any]) -> FactorUse:
    """Parse energy and its conversion factor; a null zone means energy without emissions."""
    energy_uj, carbon_ng = (_parse_amount(what, row, name) for name in ("energy_uj", "carbon_ng"))
    if row.get("zone") is None:
        if carbon_ng:
            raise RequestRefused(
                400, f"{what}: expected a zone, or carbon_ng 0; found {carbon_ng} ng"
            )
        return FactorUse(None, energy_uj, 0)
    factor = Factor(
        zone=validate_text(f"{what}.zone", row.get("zone")),
        source=validate_text(f"{what}.source", row.get("source")),
        grams_per_kwh=validate_amount(f"{what}.grams_per_kwh", row.get("grams_per_kwh")),
        pue=validate_amount(f"{what}.pue", row.get("pue")),
        valid_from=0.0,
        valid_until=math.inf,
        as_of=0.0,
        basis=Basis.UNSTATED,
        estimated=True,
    )
    return FactorUse(factor, energy_uj, carbon_ng)


def _check_sums(what: str, parts: Iterable[RecordPart], uses: Iterable[FactorUse]) -> None:
    total = sum_amounts(part.amount for part in parts)
    of_uses = sum_amounts(Amount(use.energy_uj, 0, use.carbon_ng) for use in uses)
    if total != of_uses:
        raise RequestRefused(
            400, f"{what}: the sums of parts and intensity differ: {total}, {of_uses}"
        )


def _parse_list(
    what: str, value: Any, most: int, parse: Callable[[str, dict[str, Any]], T]
) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise RequestRefused(400, f"{what}: expected a list of at most {most}")
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise RequestRefused(400, f"{what}[{number}]: expected an object, found {row!r:.50}")
    return tuple(parse(f"{what}[{number}]", row) for number, row in enumerate(value))


def _parse_enum(members: Iterable[E], what: str, row: dict[str, Any], key: str) -> E:
    found = [member for member in members if member == row.get(key)]
    if not found:
        known = ", ".join(members)
        raise RequestRefused(400, f"{what}.{key}: expected one of {known}")
    return found[0]


def _parse_amount(what: str, row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value <= MAX_AMOUNT:
        raise RequestRefused(400, f"{what}.{key}: expected a whole number from 0 to {MAX_AMOUNT}")
    return value
