"""Usage over time, as the ledger keeps it: by the minute, and by the hour when that is long ago."""

import sqlite3
from collections.abc import Sequence

from exporter.account import plain
from exporter.account.rows import FIXED, key_of
from exporter.model.books import Amount
from exporter.model.record import Spell
from exporter.model.runs import RunKey

MINUTES = """
SELECT minute * 60, party_id, kind, name, SUM(energy_uj), SUM(held_uj), SUM(carbon_ng)
FROM usage JOIN device ON device.id = device_id
WHERE minute >= :since / 60 AND minute * 60 < :until {and_party}
GROUP BY minute, party_id, device_id ORDER BY minute, party_id, device_id
"""
HOURS = """
SELECT hour * 3600, party_id, kind, name, SUM(energy_uj), SUM(held_uj), SUM(carbon_ng)
FROM (
    SELECT hour, party_id, device_id, energy_uj, held_uj, carbon_ng FROM usage_hour
    WHERE hour >= :since / 3600 AND hour * 3600 < :until {and_party}
    UNION ALL
    SELECT minute / 60, party_id, device_id, energy_uj, held_uj, carbon_ng FROM usage
    WHERE minute >= :since / 3600 * 60 AND minute * 60 < :until {and_party}
) JOIN device ON device.id = device_id
GROUP BY hour, party_id, device_id ORDER BY hour, party_id, device_id
"""
PARTY = """
AND party_id = (SELECT id FROM party WHERE uid = :uid AND run_id = :run_id AND job_id = :job_id)
"""


def spells(
    connection: sqlite3.Connection, since: float, until: float, run: RunKey | None, *, by_hour: bool
) -> Sequence[Spell]:
    """What each party, or one run, used of each device in each minute or hour of a time."""
    query = (HOURS if by_hour else MINUTES).format(and_party=PARTY if run is not None else "")
    values = {"since": int(since), "until": int(until), **(run._asdict() if run else {})}
    names: dict[int, RunKey | None] = dict.fromkeys(FIXED)
    found = []
    for at, party_id, kind, name, *amounts in connection.execute(query, values):
        if party_id not in names:
            names[party_id] = key_of(connection, party_id)
        device = plain.device((kind, name))
        found.append(Spell(float(at), device, names[party_id], Amount(*amounts)))
    return found
