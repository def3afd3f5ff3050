"""Decodes rows of the ledger into values of the model; maps enumerations to their stored ids."""

import json
import sqlite3
from collections.abc import Iterable
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


def read_balances(
    connection: sqlite3.Connection, party_id: int, target: AttributionTarget
) -> dict[AccountKey, Balance]:
    """Return the totals of one party."""
    found = connection.execute(
        "SELECT kind, name, method, split, energy_uj, held_uj, carbon_ng, base_energy_uj, "
        "base_held_uj, base_carbon_ng FROM total JOIN device ON device.id = device_id "
        "WHERE party_id = ?",
        (party_id,),
    )
    return {
        AccountKey(decode_device((kind, name)), target, METHODS[method], SPLITS[split]): Balance(
            Amount(*_checked_integers(amounts[:3])), Amount(*_checked_integers(amounts[3:]))
        )
        for kind, name, method, split, *amounts in found
    }


def _checked_integers(values: list[int]) -> list[int]:
    """Return the values if all are integers. Raises TypeError, since the file is damaged then."""
    if not all(type(value) is int for value in values):
        raise TypeError(f"expected integer amounts, found {values!r}")
    return values


def read_factor_uses(connection: sqlite3.Connection, party_id: int) -> tuple[FactorUse, ...]:
    """Return the factor uses of one party, in the order in which the factors were stored."""
    found = connection.execute(
        "SELECT factor_id, zone, source, grams_per_kwh, pue, valid_from, valid_until, as_of, "
        "signal, basis, accounting, estimated, step, energy_uj, carbon_ng "
        "FROM factor_use JOIN factor ON factor.id = factor_id "
        "WHERE party_id = ? ORDER BY factor_id",
        (party_id,),
    )
    return tuple(
        FactorUse(
            None if factor_id == NO_FACTOR_ID else decode_factor(values), energy_uj, carbon_ng
        )
        for factor_id, *values, energy_uj, carbon_ng in found
    )


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
