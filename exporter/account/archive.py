"""Read-only queries of the ledger: run records, sums by group, and usage over time."""

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from exporter.account import decoding
from exporter.account.database import LedgerConnection, reading_errors, uri_of
from exporter.account.decoding import (
    DEPARTED_ID,
    FIXED_PARTIES,
    METHODS,
    NO_FACTOR_ID,
    SPLITS,
    read_balances,
    read_factor_uses,
    read_run_key,
)
from exporter.account.run_rows import FIND_RUN, read_parties
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import DeviceKind
from exporter.model.record import (
    ANY_RUN,
    UNSEEN_SECONDS,
    GroupBy,
    RecordPart,
    RunCursor,
    RunFilter,
    RunRecord,
    RunTotals,
    UsageInterval,
)
from exporter.model.runs import IMPORTED_UID, SLURM, RunInfo, RunKey, UnitCount

LABEL_VALUE = "coalesce((SELECT value FROM label WHERE party_id = party.id AND key = '{}'), '{}')"
GROUP_COLUMNS = {
    GroupBy.JOB: "job_id",
    GroupBy.USER: "user",
    GroupBy.GROUP: LABEL_VALUE.format("group", ""),
    GroupBy.NAMESPACE: "namespace",
    GroupBy.ACCOUNT: "account",
}
NODE_COLUMN = (
    f"CASE WHEN uid = {IMPORTED_UID} THEN {LABEL_VALUE.format('node', 'unknown')} ELSE ? END"
)

CREATE_KNOWN = """
CREATE TEMP TABLE known AS
SELECT id, enclosing_uid, enclosing_run_id, enclosing_job_id, user, origin, started, ended,
    {group} AS name, {node} AS node, id NOT IN ({excluded}) AS is_summed
FROM party WHERE {where}
"""
TOTALS = f"""
SELECT name, count(*), min(started), max(ended), sum(ended IS NULL),
    sum(max(coalesce(ended, ?) - started, 0)), sum(
    origin = '{SLURM}' AND coalesce(ended, ?) - started >= {UNSEEN_SECONDS}
    AND coalesce((
        SELECT max(energy_uj) = 0 FROM total JOIN device ON device.id = device_id
        WHERE party_id = known.id AND kind <> '{DeviceKind.GPU}'
    ), FALSE)
)
FROM known WHERE is_summed GROUP BY name ORDER BY max(started) DESC, name
"""  # noqa: S608  our own names
INNER_SECONDS = """
SELECT inner_run.name, sum(max(coalesce(inner_run.ended, ?) - inner_run.started, 0))
FROM known AS inner_run
JOIN party ON party.uid = inner_run.enclosing_uid AND party.run_id = inner_run.enclosing_run_id
    AND party.job_id = inner_run.enclosing_job_id
JOIN known AS outer_run ON outer_run.id = party.id AND outer_run.name = inner_run.name
WHERE inner_run.is_summed GROUP BY inner_run.name
"""
USERS_AND_NODES = "SELECT DISTINCT name, user, node FROM known WHERE is_summed ORDER BY user, node"
PARTS = """
SELECT known.name, kind, device.name, method, split, sum(energy_uj), sum(held_uj), sum(carbon_ng)
FROM known JOIN total ON total.party_id = known.id JOIN device ON device.id = device_id
WHERE is_summed GROUP BY known.name, device_id, method, split
"""
FACTORS = f"""
SELECT known.name, factor_id = {NO_FACTOR_ID}, sum(energy_uj), sum(carbon_ng), zone, source,
    CASE WHEN min(grams_per_kwh) = max(grams_per_kwh) OR sum(energy_uj) = 0 THEN min(grams_per_kwh)
        ELSE sum(energy_uj * grams_per_kwh) / sum(energy_uj) END,
    pue, min(valid_from), max(valid_until), max(as_of), signal, basis, accounting, estimated, step
FROM known JOIN factor_use ON factor_use.party_id = known.id JOIN factor ON factor.id = factor_id
WHERE is_summed
GROUP BY known.name, factor_id = {NO_FACTOR_ID}, zone, source, pue, signal, basis, accounting,
    estimated, step
ORDER BY min(factor_id)
"""  # noqa: S608  our own names
"""One row for each source: its mean intensity, weighted by energy. A live source has a factor for
each hour, of which a sum over a year would have thousands."""
UNITS = """
SELECT known.name, unit.name, sum(amount)
FROM known JOIN unit ON unit.party_id = known.id WHERE is_summed GROUP BY known.name, unit.name
"""


def run_sums(
    connection: sqlite3.Connection,
    by: GroupBy,
    where: str,
    values: tuple[object, ...],
    excluded: Iterable[int],
    wall: float,
    node: str,
) -> list[RunTotals]:
    """Return totals by group of the parties that satisfy the SQL condition `where`.

    `values` are the parameters of `where`, `excluded` the ids of parties that are not included,
    `wall` is the time of the last commit in Unix seconds, and `node` is the name of this machine.
    """
    connection.execute("PRAGMA temp_store = MEMORY")
    create = CREATE_KNOWN.format(
        group=GROUP_COLUMNS[by],
        node=NODE_COLUMN,
        excluded=", ".join(map(str, excluded)),
        where=where,
    )
    connection.execute(create, (node, *values))
    # The runs are found once for all queries; with an index if one of them needs it.
    connection.execute("CREATE UNIQUE INDEX temp.known_id ON known (id)")
    try:
        return list(_totals(connection, wall))
    finally:
        connection.execute("DROP TABLE temp.known")


def _totals(connection: sqlite3.Connection, wall: float) -> Iterator[RunTotals]:
    """Yield the totals by group of the runs in the temporary table `known`."""
    users: dict[str, dict[str, None]] = {}
    nodes: dict[str, dict[str, None]] = {}
    for name, user, run_node in connection.execute(USERS_AND_NODES):
        users.setdefault(name, {})[str(user)] = None
        nodes.setdefault(name, {})[str(run_node)] = None
    parts: dict[str, list[RecordPart]] = {}
    for name, kind, device, method, split, *amounts in connection.execute(PARTS):
        part = RecordPart(
            decoding.decode_device((kind, device)), METHODS[method], SPLITS[split], Amount(*amounts)
        )
        parts.setdefault(name, []).append(part)
    factors: dict[str, list[FactorUse]] = {}
    for name, is_unknown, energy_uj, carbon_ng, *facts in connection.execute(FACTORS):
        factor = None if is_unknown else decoding.decode_factor(facts)
        factors.setdefault(name, []).append(FactorUse(factor, energy_uj, carbon_ng))
    units: dict[str, list[UnitCount]] = {}
    for name, unit, amount in connection.execute(UNITS):
        units.setdefault(name, []).append(UnitCount(unit, amount))
    inner_seconds = dict(connection.execute(INNER_SECONDS, (wall,)).fetchall())
    for name, count, started, ended, still_open, seconds, unseen in connection.execute(
        TOTALS, (wall, wall)
    ).fetchall():
        yield RunTotals(
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
            run_seconds=seconds - inner_seconds.get(name, 0.0),
            unseen_runs=unseen,
        )


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
OF_RUN = """
AND party_id = (SELECT id FROM party WHERE uid = :uid AND run_id = :run_id AND job_id = :job_id)
"""


def usage_intervals(
    connection: sqlite3.Connection, since: float, until: float, run: RunKey | None, *, by_hour: bool
) -> Sequence[UsageInterval]:
    """Return usage by minute or hour, device and party, or that of one run.

    `since` and `until` are Unix seconds.
    """
    query = (HOURS if by_hour else MINUTES).format(and_party=OF_RUN if run is not None else "")
    values = {"since": int(since), "until": int(until), **(run._asdict() if run else {})}
    names: dict[int, RunKey | None] = dict.fromkeys(FIXED_PARTIES)
    found = []
    for at, party_id, kind, name, *amounts in connection.execute(query, values):
        if party_id not in names:
            names[party_id] = read_run_key(connection, party_id)
        device = decoding.decode_device((kind, name))
        found.append(UsageInterval(float(at), device, names[party_id], Amount(*amounts)))
    return found


IN_GROUP = "id IN (SELECT party_id FROM label WHERE key = 'group' AND value = ?)"

INSIDE = ("enclosing_uid = ?", "enclosing_run_id = ?", "enclosing_job_id = ?")
UNKNOWN_NODE = "unknown"


def _where_clause(wanted: RunFilter) -> tuple[str, tuple[object, ...]]:
    """Return the SQL condition of a filter and its parameters."""
    conditions = {
        "shown_id = ?": wanted.run_id or None,
        "job_id = ?": wanted.job_id,
        "user = ?": wanted.user or None,
        IN_GROUP: wanted.group or None,
        "namespace = ?": wanted.namespace or None,
        "account = ?": wanted.account or None,
        "name = ?": wanted.name or None,
    }
    used = {sql: value for sql, value in conditions.items() if value is not None}
    inside = INSIDE if wanted.inside is not None else ()
    values = (*used.values(), *(wanted.inside or ()))
    # The plus keeps SQLite from reading all runs by their ids, and sorting them by their start.
    return " AND ".join([f"+id > {DEPARTED_ID}", *used, *inside]), values


def _enclosing_id(connection: sqlite3.Connection, run: RunInfo) -> str:
    """Return the shown id of the enclosing run, or its run id if it is not in the ledger."""
    if run.enclosing is None:
        return ""
    found = connection.execute(
        "SELECT shown_id FROM party WHERE uid = ? AND run_id = ? AND job_id = ?", run.enclosing
    ).fetchone()
    return str(found[0]) if found else run.enclosing.run_id


class LedgerArchive:
    """Read access to the ledger at `path`, for any thread; `node` is the machine's name in records.

    Every call opens its own read-only connection and sees committed data only. Methods raise
    LedgerError.
    """

    def __init__(self, path: str, node: str) -> None:
        self._path = path
        self._uri = uri_of(path)
        self._node = node

    def ledger_id(self) -> str:
        """Return the id that the ledger got when it was created."""
        with self._reading() as connection:
            (found,) = connection.execute("SELECT ledger_id FROM meta").fetchone()
        return str(found)

    def runs(
        self,
        limit: int,
        wanted: RunFilter = ANY_RUN,
        after: RunCursor | None = None,
        since: float = 0.0,
    ) -> Sequence[RunRecord]:
        """Return the records of at most `limit` runs, newest first, starting after a cursor.

        They began at `since` (Unix seconds) or later.
        """
        where, values = _where_clause(wanted)
        if since:
            where += " AND started >= ?"
            values = (*values, since)
        if after is not None:
            where += " AND started <= ? AND (-started, run_id, job_id, uid) > (?, ?, ?, ?)"
            values = (*values, after.started, *after.order)
        order = "ORDER BY started DESC, run_id, job_id, uid LIMIT ?"
        return self._records(f"{where} {order}", (*values, limit))

    def sums(
        self, by: GroupBy, since: float, wanted: RunFilter, leaving_out: Collection[RunKey]
    ) -> Sequence[RunTotals]:
        """Return totals by group of the runs that began at `since` (Unix seconds) or later.

        Runs in `leaving_out` are not included.
        """
        where, values = _where_clause(wanted)
        with self._reading() as connection:
            (wall,) = connection.execute("SELECT wall FROM meta").fetchone()
            found = (connection.execute(FIND_RUN, key).fetchone() for key in leaving_out)
            excluded = [int(row[0]) for row in found if row is not None]
            where += " AND started >= ?"
            return run_sums(connection, by, where, (*values, since), excluded, wall, self._node)

    def usage(
        self, since: float, until: float, run: RunKey | None = None, *, by_hour: bool = False
    ) -> Sequence[UsageInterval]:
        """Return usage of all parties, or of one run, by minute or hour."""
        with self._reading() as connection:
            return usage_intervals(connection, since, until, run, by_hour=by_hour)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[LedgerConnection]:
        with (
            reading_errors(self._path),
            contextlib.closing(
                LedgerConnection(self._uri, uri=True, isolation_level=None)
            ) as connection,
        ):
            connection.execute("BEGIN")  # all queries see the same state
            yield connection

    def _node_of(self, run: RunInfo) -> str:
        """Return the machine on which a run ran; unknown for some imported runs."""
        return (
            self._node
            if run.key.uid != IMPORTED_UID
            else dict(run.labels).get("node", UNKNOWN_NODE)
        )

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        with self._reading() as connection:
            (wall,) = connection.execute("SELECT wall FROM meta").fetchone()
            parties = list(read_parties(connection, where, values))
            balances = read_balances(connection, {row.id: row.target for row in parties})
            uses = read_factor_uses(connection, balances)
            return [
                RunRecord(
                    run=row.run,
                    parts=tuple(
                        RecordPart(line.device, line.method, line.split, balance.total)
                        for line, balance in balances[row.id].items()
                    ),
                    factors=uses[row.id],
                    at=max(wall, row.run.ended or 0.0),
                    node=self._node_of(row.run),
                    inside=_enclosing_id(connection, row.run),
                )
                for row in parties
                if row.run is not None
            ]
