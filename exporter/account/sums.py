"""Sums over all runs of the ledger by job, group, user or namespace, added up by SQLite."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from exporter.account import plain
from exporter.account.rows import METHODS, NO_FACTOR_ID, SPLITS
from exporter.model.books import Amount, FactorUse
from exporter.model.record import Part, RunSum, Sums
from exporter.model.runs import HISTORY, Unit

LABEL = "coalesce((SELECT value FROM label WHERE party_id = party.id AND key = '{}'), '{}')"
NAMES = {
    Sums.JOB: "job_id",
    Sums.USER: "user",
    Sums.GROUP: LABEL.format("group", ""),
    Sums.NAMESPACE: "namespace",
}
NODE = f"CASE WHEN uid = {HISTORY} THEN {LABEL.format('node', 'unknown')} ELSE ? END"

WHOLE = """
SELECT name, count(*), min(started), max(ended), sum(ended IS NULL)
FROM chosen GROUP BY name ORDER BY max(started) DESC, name
"""
PLACES = "SELECT DISTINCT name, user, node FROM chosen ORDER BY user, node"
PARTS = """
SELECT chosen.name, kind, device.name, method, split, sum(energy_uj), sum(held_uj), sum(carbon_ng)
FROM chosen JOIN total ON total.party_id = chosen.id JOIN device ON device.id = device_id
GROUP BY chosen.name, device_id, method, split
"""
FACTORS = """
SELECT chosen.name, factor_id, sum(energy_uj), sum(carbon_ng), zone, source, grams_per_kwh, pue,
    valid_from, valid_until, as_of, signal, basis, accounting, estimated, step
FROM chosen JOIN factor_use ON factor_use.party_id = chosen.id JOIN factor ON factor.id = factor_id
GROUP BY chosen.name, factor_id
"""
UNITS = """
SELECT chosen.name, unit.name, sum(amount)
FROM chosen JOIN unit ON unit.party_id = chosen.id GROUP BY chosen.name, unit.name
"""


def run_sums(
    connection: sqlite3.Connection,
    by: Sums,
    where: str,
    values: tuple[object, ...],
    wall: float,
    node: str,
) -> list[RunSum]:
    """The sums of the parties that satisfy `where`, a piece of SQL; `node` is this machine."""
    chosen = (
        f"WITH chosen AS (SELECT id, {NAMES[by]} AS name, user, {NODE} AS node, started, ended "  # noqa: S608  our own text
        f"FROM party WHERE {where}) "
    )

    def rows(query: str) -> Iterator[tuple[Any, ...]]:
        return iter(connection.execute(chosen + query, (node, *values)))

    users: dict[str, dict[str, None]] = {}
    nodes: dict[str, dict[str, None]] = {}
    for name, user, of in rows(PLACES):
        users.setdefault(name, {})[str(user)] = None
        nodes.setdefault(name, {})[str(of)] = None
    parts: dict[str, list[Part]] = {}
    for name, kind, device, method, split, *amounts in rows(PARTS):
        part = Part(plain.device((kind, device)), METHODS[method], SPLITS[split], Amount(*amounts))
        parts.setdefault(name, []).append(part)
    factors: dict[str, list[FactorUse]] = {}
    for name, factor_id, energy_uj, carbon_ng, *facts in rows(FACTORS):
        factor = None if factor_id == NO_FACTOR_ID else plain.factor(facts)
        factors.setdefault(name, []).append(FactorUse(factor, energy_uj, carbon_ng))
    units: dict[str, list[Unit]] = {}
    for name, unit, amount in rows(UNITS):
        units.setdefault(name, []).append(Unit(unit, amount))
    return [
        RunSum(
            name=name,
            runs=count,
            users=tuple(users[name]),
            nodes=tuple(nodes[name]),
            started=started,
            ended=None if still_open else ended,
            at=max(wall, ended or 0.0),
            parts=tuple(parts.get(name, ())),
            factors=tuple(factors.get(name, ())),
            units=tuple(units.get(name, ())),
        )
        for name, count, started, ended, still_open in rows(WHOLE)
    ]
