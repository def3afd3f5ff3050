"""Every run that the ledger knows, read beside the thread that writes it."""

import contextlib
from collections.abc import Collection, Iterator, Sequence

from exporter.account.connection import Connection
from exporter.account.history import spells
from exporter.account.opening import explained, uri_of
from exporter.account.postings import FIND_RUN
from exporter.account.rows import DEPARTED_ID, factor_uses, lines, parties
from exporter.account.sums import run_sums
from exporter.model.record import (
    ANY,
    Cursor,
    Part,
    RunRecord,
    RunSum,
    Spell,
    Sums,
    Wanted,
)
from exporter.model.runs import HISTORY, RunInfo, RunKey

IN_GROUP = "id IN (SELECT party_id FROM label WHERE key = 'group' AND value = ?)"

UNKNOWN = "unknown"


def _conditions(wanted: Wanted) -> tuple[str, tuple[object, ...]]:
    """The runs that are asked for: a piece of SQL, and its values."""
    conditions = {
        "shown_id = ?": wanted.run_id or None,
        "job_id = ?": wanted.job_id,
        "user = ?": wanted.user or None,
        IN_GROUP: wanted.group or None,
        "namespace = ?": wanted.namespace or None,
        "enclosing_run_id = ?": wanted.inside or None,
    }
    asked = {sql: value for sql, value in conditions.items() if value is not None}
    return " AND ".join([f"id > {DEPARTED_ID}", *asked]), tuple(asked.values())


class LedgerArchive:
    """Reads the ledger at `path` for receipts; `node` is the machine's name in them.

    Every call has a read-only connection of its own, so any thread may call. What was not
    committed yet is not seen. Raises LedgerError.
    """

    def __init__(self, path: str, node: str) -> None:
        self._path = path
        self._uri = uri_of(path)
        self._node = node

    def ledger_id(self) -> str:
        """The id that was made with the file."""
        with self._reading() as connection:
            (found,) = connection.execute("SELECT ledger_id FROM meta").fetchone()
        return str(found)

    def runs(
        self, limit: int, wanted: Wanted = ANY, after: Cursor | None = None
    ) -> Sequence[RunRecord]:
        """The `limit` runs that began last, newest first, or those that come after a place."""
        where, values = _conditions(wanted)
        if after is not None:
            where += " AND started <= ? AND (-started, run_id, job_id, uid) > (?, ?, ?, ?)"
            values = (*values, after.started, *after.order)
        order = "ORDER BY started DESC, run_id, job_id, uid LIMIT ?"
        return self._records(f"{where} {order}", (*values, limit))

    def sums(
        self, by: Sums, since: float, wanted: Wanted, leaving_out: Collection[RunKey]
    ) -> Sequence[RunSum]:
        """The sums of all runs that began at `since` or later, by job, group, user or namespace."""
        where, values = _conditions(wanted)
        with self._reading() as connection:
            (wall,) = connection.execute("SELECT wall FROM meta").fetchone()
            found = (connection.execute(FIND_RUN, key).fetchone() for key in leaving_out)
            out = ", ".join(str(int(row[0])) for row in found if row is not None)
            where += f" AND started >= ? AND id NOT IN ({out})"
            return run_sums(connection, by, where, (*values, since), wall, self._node)

    def usage(
        self, since: float, until: float, run: RunKey | None = None, *, by_hour: bool = False
    ) -> Sequence[Spell]:
        """Usage of all parties, or of one run, by the minute or hour."""
        with self._reading() as connection:
            return spells(connection, since, until, run, by_hour=by_hour)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with (
            explained(self._path),
            contextlib.closing(Connection(self._uri, uri=True, isolation_level=None)) as connection,
        ):
            connection.execute("BEGIN")  # one state for all that is read
            yield connection

    def _node_of(self, run: RunInfo) -> str:
        """Where it ran; another tool may not say."""
        return self._node if run.key.uid != HISTORY else dict(run.labels).get("node", UNKNOWN)

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        with self._reading() as connection:
            (wall,) = connection.execute("SELECT wall FROM meta").fetchone()
            return [
                RunRecord(
                    run=row.run,
                    parts=tuple(
                        Part(line.device, line.method, line.split, balance.total)
                        for line, balance in lines(connection, row).items()
                    ),
                    factors=factor_uses(connection, row),
                    at=max(wall, row.run.ended or 0.0),
                    node=self._node_of(row.run),
                )
                for row in parties(connection, where, values)
                if row.run is not None
            ]
