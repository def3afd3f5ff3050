"""Decodes rows of the ledger into values of the model; maps enumerations to their stored ids."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from exporter.model.intensity import Accounting, Basis, Factor, Signal
from exporter.model.ledger import AccountKey, Amount, Balance, FactorUse
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.runs import DEPARTED_RUNS, Owner, RunKey
from exporter.model.workload import AttributionTarget, SplitMethod, UnattributedReason

METHODS = {1: Method.COUNTER, 2: Method.INTEGRATED, 3: Method.ESTIMATED}
METHOD_IDS = {method: number for number, method in METHODS.items()}
SPLITS = {
    1: SplitMethod.EXCLUSIVE,
    2: SplitMethod.CPU_TIME,
    3: SplitMethod.MEMORY,
    4: SplitMethod.REST,
    5: SplitMethod.ACTIVITY,
    6: SplitMethod.SLICES,
    7: SplitMethod.EQUAL,
}
SPLIT_IDS = {split: number for number, split in SPLITS.items()}

DEPARTED_ID = 99
FIXED_PARTIES: dict[int, AttributionTarget] = {
    1: UnattributedReason.IDLE,
    2: UnattributedReason.OTHER,
    3: UnattributedReason.UNALLOCATED,
    4: UnattributedReason.UNKNOWN_PROCESS,
    5: UnattributedReason.RESTART,
    DEPARTED_ID: DEPARTED_RUNS,
}
"""Parties that the first migration inserts; runs have higher ids."""
FIXED_PARTY_IDS: dict[AttributionTarget, int] = {
    party: number for number, party in FIXED_PARTIES.items()
}
NO_FACTOR_ID = 0


MAX_IDS = 500
"""Most ids in one query."""


def rows_of(connection: sqlite3.Connection, sql: str, ids: Sequence[int]) -> Iterator[Any]:
    """Yield the rows of a query for all ids; `{ids}` in it is replaced by a list of some of them.

    One query for many ids takes a fraction of the time of one for each.
    """
    for begin in range(0, len(ids), MAX_IDS):
        yield from connection.execute(
            sql.format(ids=", ".join(map(str, ids[begin : begin + MAX_IDS])))
        )


def read_balances(
    connection: sqlite3.Connection, targets: Mapping[int, AttributionTarget]
) -> dict[int, dict[AccountKey, Balance]]:
    """Return the totals of the parties with these ids."""
    sql = (
        "SELECT party_id, kind, name, method, split, energy_uj, held_uj, carbon_ng, "
        "base_energy_uj, base_held_uj, base_carbon_ng "
        "FROM total JOIN device ON device.id = device_id WHERE party_id IN ({ids}) "
        "ORDER BY party_id, device_id, method, split"
    )
    found: dict[int, dict[AccountKey, Balance]] = {party_id: {} for party_id in targets}
    for party_id, kind, name, method, split, *amounts in rows_of(connection, sql, list(targets)):
        device = decode_device((kind, name))
        key = AccountKey(device, targets[party_id], METHODS[method], SPLITS[split])
        total, base = _checked_integers(amounts[:3]), _checked_integers(amounts[3:])
        found[party_id][key] = Balance(Amount(*total), Amount(*base))
    return found


def _checked_integers(values: list[int]) -> list[int]:
    """Return the values if all are integers. Raises TypeError, since the file is damaged then."""
    if not all(type(value) is int for value in values):
        raise TypeError(f"expected integer amounts, found {values!r}")
    return values


def read_factor_uses(
    connection: sqlite3.Connection, party_ids: Iterable[int]
) -> dict[int, tuple[FactorUse, ...]]:
    """Return the factor uses of parties, in the order in which the factors were stored."""
    sql = (
        "SELECT party_id, factor_id, zone, source, grams_per_kwh, pue, valid_from, valid_until, "
        "as_of, signal, basis, accounting, estimated, step, energy_uj, carbon_ng "
        "FROM factor_use JOIN factor ON factor.id = factor_id "
        "WHERE party_id IN ({ids}) ORDER BY party_id, factor_id"
    )
    found: dict[int, list[FactorUse]] = {party_id: [] for party_id in party_ids}
    factors: dict[int, Factor | None] = {NO_FACTOR_ID: None}
    for party_id, factor_id, *values, energy_uj, carbon_ng in rows_of(connection, sql, list(found)):
        if factor_id not in factors:
            factors[factor_id] = decode_factor(values)
        found[party_id].append(FactorUse(factors[factor_id], energy_uj, carbon_ng))
    return {party_id: tuple(uses) for party_id, uses in found.items()}


def read_run_key(connection: sqlite3.Connection, party_id: int) -> RunKey:
    """Return the run key of a party."""
    sql = "SELECT uid, run_id, job_id FROM party WHERE id = ?"
    return RunKey(*connection.execute(sql, (party_id,)).fetchone())


def read_owners(connection: sqlite3.Connection) -> dict[Owner, tuple[int, int]]:
    """Return the counted energy (uJ) and carbon (ng) of departed runs by owner."""
    found = connection.execute("SELECT user, namespace, labels, energy_uj, carbon_ng FROM owner")
    return {
        decode_owner((user, namespace, json.loads(labels))): (energy_uj, carbon_ng)
        for user, namespace, labels, energy_uj, carbon_ng in found
    }


def decode_device(values: Iterable[str]) -> Device:
    """Return a device from its fields, kind and name."""
    kind, name = values
    return Device(DeviceKind(kind), name)


def decode_owner(values: Iterable[Any]) -> Owner:
    """Return an owner from its fields, in their order."""
    user, namespace, labels = values
    return Owner(user, namespace, tuple((name, value) for name, value in labels))


def decode_factor(values: Iterable[Any]) -> Factor:
    """Return a factor from its fields, in their order."""
    factor = Factor(*values)
    return factor._replace(
        signal=Signal(factor.signal),
        basis=Basis(factor.basis),
        accounting=Accounting(factor.accounting),
        estimated=bool(factor.estimated),
    )
