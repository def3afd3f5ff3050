"""Rows of the ledger as values of the model, for all who read it."""

import json
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from exporter.account import plain
from exporter.model.books import Amount, Balance, FactorUse, Line
from exporter.model.readings import Method
from exporter.model.runs import DEPARTED, Owner, RunInfo, RunKey, Unit
from exporter.model.workload import Party, Reason, Split

METHODS = {1: Method.COUNTER, 2: Method.INTEGRATED, 3: Method.ESTIMATED}
METHOD_IDS = {method: number for number, method in METHODS.items()}
SPLITS = {
    1: Split.EXCLUSIVE,
    2: Split.CPU_TIME,
    3: Split.MEMORY,
    4: Split.REST,
    5: Split.ACTIVITY,
    6: Split.SLICES,
    7: Split.EQUAL,
}
SPLIT_IDS = {split: number for number, split in SPLITS.items()}

DEPARTED_ID = 99
FIXED: dict[int, Party] = {
    1: Reason.IDLE,
    2: Reason.OTHER,
    3: Reason.UNALLOCATED,
    4: Reason.UNKNOWN_PROCESS,
    5: Reason.RESTART,
    DEPARTED_ID: DEPARTED,
}
"""Parties that the schema begins with; runs come after them."""
FIXED_IDS: dict[Party, int] = {party: number for number, party in FIXED.items()}
NO_FACTOR_ID = 0

PARTY_COLUMNS = """id, uid, run_id, job_id, name, user, origin, started, ended, end_reason, scope,
    lead_pid, lead_start, cgroup, account, budget_grams, shown_id,
    enclosing_uid, enclosing_run_id, enclosing_job_id, namespace, nodes, owner"""


class PartyRow(NamedTuple):
    """A row of `party`: its id, who it is, and the run if it is one."""

    id: int
    party: Party
    run: RunInfo | None


def parties(
    connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()
) -> Iterator[PartyRow]:
    """The parties that satisfy `where`, a piece of SQL, in its order."""
    sql = f"SELECT {PARTY_COLUMNS} FROM party WHERE {where}"  # noqa: S608  our own text
    for party_id, uid, run_id, job_id, *rest in connection.execute(sql, values).fetchall():
        if party_id in FIXED:
            yield PartyRow(party_id, FIXED[party_id], None)
            continue
        key = RunKey(uid, run_id, job_id)
        (
            *info,
            budget_grams,
            shown_id,
            around_uid,
            around_run,
            around_job,
            namespace,
            nodes,
            owner,
        ) = rest
        run = RunInfo(key, *info)
        run = run._replace(
            labels=_labels(connection, party_id),
            budget_grams=budget_grams,
            shown_id=shown_id,
            enclosing=None if around_uid is None else RunKey(around_uid, around_run, around_job),
            namespace=namespace,
            nodes=nodes,
            owner=plain.owner(json.loads(owner)) if owner else None,
            units=_units(connection, party_id),
            logged=_results(connection, party_id),
            is_provisional=not owner and run.ended is None,
        )
        yield PartyRow(party_id, key, run)


def lines(connection: sqlite3.Connection, row: PartyRow) -> dict[Line, Balance]:
    """The totals of one party."""
    found = connection.execute(
        "SELECT kind, name, method, split, energy_uj, held_uj, carbon_ng, base_energy_uj, "
        "base_held_uj, base_carbon_ng FROM total JOIN device ON device.id = device_id "
        "WHERE party_id = ?",
        (row.id,),
    )
    return {
        Line(plain.device((kind, name)), row.party, METHODS[method], SPLITS[split]): Balance(
            Amount(*_whole(amounts[:3])), Amount(*_whole(amounts[3:]))
        )
        for kind, name, method, split, *amounts in found
    }


def _whole(values: list[int]) -> list[int]:
    """The values, if they are what their columns are for. Raises TypeError for a damaged file."""
    if not all(type(value) is int for value in values):
        raise TypeError(f"{values!r} are no amounts")
    return values


def factor_uses(connection: sqlite3.Connection, row: PartyRow) -> tuple[FactorUse, ...]:
    """What one run's totals were converted with, in the order in which the factors were met."""
    found = connection.execute(
        "SELECT factor_id, zone, source, grams_per_kwh, pue, valid_from, valid_until, as_of, "
        "signal, basis, accounting, estimated, step, energy_uj, carbon_ng "
        "FROM factor_use JOIN factor ON factor.id = factor_id "
        "WHERE party_id = ? ORDER BY factor_id",
        (row.id,),
    )
    return tuple(
        FactorUse(None if factor_id == NO_FACTOR_ID else plain.factor(values), energy_uj, carbon_ng)
        for factor_id, *values, energy_uj, carbon_ng in found
    )


def key_of(connection: sqlite3.Connection, party_id: int) -> RunKey:
    """The run of a row of `party`."""
    sql = "SELECT uid, run_id, job_id FROM party WHERE id = ?"
    return RunKey(*connection.execute(sql, (party_id,)).fetchone())


def owners(connection: sqlite3.Connection) -> dict[Owner, tuple[int, int]]:
    """What counters showed of departed runs, by owner."""
    found = connection.execute("SELECT user, namespace, labels, energy_uj, carbon_ng FROM owner")
    return {
        plain.owner((user, namespace, json.loads(labels))): (energy_uj, carbon_ng)
        for user, namespace, labels, energy_uj, carbon_ng in found
    }


def _units(connection: sqlite3.Connection, party_id: int) -> tuple[Unit, ...]:
    sql = "SELECT name, amount, base FROM unit WHERE party_id = ? ORDER BY name"
    return tuple(Unit(*row) for row in connection.execute(sql, (party_id,)))


def _results(connection: sqlite3.Connection, party_id: int) -> tuple[tuple[str, float | str], ...]:
    sql = "SELECT key, value FROM result WHERE party_id = ? ORDER BY key"
    return tuple(connection.execute(sql, (party_id,)).fetchall())


def _labels(connection: sqlite3.Connection, party_id: int) -> tuple[tuple[str, str], ...]:
    sql = "SELECT key, value FROM label WHERE party_id = ? ORDER BY key"
    return tuple(connection.execute(sql, (party_id,)).fetchall())
