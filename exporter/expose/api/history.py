"""Runs of another tool that a body brings, checked at the door."""

import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, TypeVar

from exporter.errors import Refused
from exporter.expose.api.bodies import (
    SCOPES,
    checked_amount,
    checked_labels,
    checked_object,
    checked_text,
)
from exporter.model.books import Amount, FactorUse, sum_of
from exporter.model.commands import TakeIn
from exporter.model.intensity import Basis, Factor
from exporter.model.readings import Device, Kind, Method
from exporter.model.record import Part, RunRecord
from exporter.model.runs import HISTORY, RunInfo, RunKey
from exporter.model.workload import Split

ORIGINS = ("codecarbon",)
RUNS = 100
ROWS = 16
"""Parts, or intensities, of one run."""
MOST = 10**18
"""Microjoules, or nanograms: a thousand tonnes."""
LAST_MOMENT = 1e11
ENDED = "ended"
KEYS = ("run_id", "name", "labels", "scope", "started", "ended", "parts", "intensity")
E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def parse_history(body: bytes, user: str) -> TakeIn:
    """The runs that a body brings, as those of `user`. Raises Refused(400)."""
    document = checked_object(body, ("origin", "runs"))
    origin = document.get("origin")
    if origin not in ORIGINS:
        raise Refused(400, f"origin: expected {', '.join(ORIGINS)}, found {origin!r:.50}")
    runs = _each("runs", document.get("runs"), RUNS, lambda what, run: _record(what, run, origin))
    return TakeIn(
        tuple(each._replace(run=each.run._replace(user=user, origin=origin)) for each in runs)
    )


def _record(what: str, run: dict[str, Any], origin: str) -> RunRecord:
    if unknown := [key for key in run if key not in KEYS]:
        raise Refused(400, f"{what}.{unknown[0]:.50}: there is no such key")
    run_id = checked_text(f"{what}.run_id", run.get("run_id"))
    started = checked_amount(f"{what}.started", run.get("started"))
    ended = checked_amount(f"{what}.ended", run.get("ended"))
    if not run_id or run.get("scope") not in SCOPES or not started <= ended <= LAST_MOMENT:
        raise Refused(400, f"{what}: expected a run_id, a scope, and an end after the start")
    info = RunInfo(
        RunKey(HISTORY, run_id, ""),
        checked_text(f"{what}.name", run.get("name", "")),
        user="",
        origin="",
        started=started,
        ended=ended,
        end_reason=ENDED,
        scope=run["scope"],
        labels=checked_labels(run.get("labels", {})),
        shown_id=run_id,
    )
    parts = _each(f"{what}.parts", run.get("parts"), ROWS, lambda at, row: _part(at, row, origin))
    uses = _each(f"{what}.intensity", run.get("intensity"), ROWS, _use)
    _check_sums(what, parts, uses)
    return RunRecord(info, parts, uses, at=ended, node="")


def _part(what: str, row: dict[str, Any], origin: str) -> Part:
    """Part of a run; the device is none of this machine."""
    return Part(
        Device(_one_of(Kind, what, row, "device"), origin),
        _one_of(Method, what, row, "method"),
        _one_of(Split, what, row, "split"),
        Amount(_whole(what, row, "energy_uj"), 0, _whole(what, row, "carbon_ng")),
    )


def _use(what: str, row: dict[str, Any]) -> FactorUse:
    """Energy with what it was converted with; a zone that is null has energy without grams."""
    energy_uj, carbon_ng = (_whole(what, row, name) for name in ("energy_uj", "carbon_ng"))
    if row.get("zone") is None:
        if carbon_ng:
            raise Refused(400, f"{what}: expected a zone, or no grams; found {carbon_ng} ng")
        return FactorUse(None, energy_uj, 0)
    factor = Factor(
        zone=checked_text(f"{what}.zone", row.get("zone")),
        source=checked_text(f"{what}.source", row.get("source")),
        grams_per_kwh=checked_amount(f"{what}.grams_per_kwh", row.get("grams_per_kwh")),
        pue=checked_amount(f"{what}.pue", row.get("pue")),
        valid_from=0.0,
        valid_until=math.inf,
        as_of=0.0,
        basis=Basis.UNSTATED,
        estimated=True,
    )
    return FactorUse(factor, energy_uj, carbon_ng)


def _check_sums(what: str, parts: Iterable[Part], uses: Iterable[FactorUse]) -> None:
    total = sum_of(part.amount for part in parts)
    of_uses = sum_of(Amount(use.energy_uj, 0, use.carbon_ng) for use in uses)
    if total != of_uses:
        raise Refused(400, f"{what}: the sums of parts and intensity differ: {total}, {of_uses}")


def _each(
    what: str, value: Any, most: int, parse: Callable[[str, dict[str, Any]], T]
) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise Refused(400, f"{what}: expected a list of at most {most}")
    for number, row in enumerate(value):
        if not isinstance(row, dict):
            raise Refused(400, f"{what}[{number}]: expected an object, found {row!r:.50}")
    return tuple(parse(f"{what}[{number}]", row) for number, row in enumerate(value))


def _one_of(kinds: type[E], what: str, row: dict[str, Any], key: str) -> E:
    try:
        return kinds(str(row.get(key)))
    except ValueError:
        known = ", ".join(kinds)
        raise Refused(400, f"{what}.{key}: expected one of {known}") from None


def _whole(what: str, row: dict[str, Any], key: str) -> int:
    value = row.get(key)
    if type(value) is not int or not 0 <= value <= MOST:
        raise Refused(400, f"{what}.{key}: expected a whole number from 0 to {MOST}")
    return value
