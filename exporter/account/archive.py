"""Every run that the ledger knows, read beside the thread that writes it."""

import contextlib
import urllib.parse
from collections.abc import Sequence

from exporter.account.connection import Connection
from exporter.account.opening import explained
from exporter.account.rows import DEPARTED_ID, factor_uses, lines, parties
from exporter.model.record import Part, RunRecord


class LedgerArchive:
    """Reads the ledger at `path` for receipts; `node` is the machine's name in them.

    Every call has a read-only connection of its own, so any thread may call. What was not
    committed yet is not seen. Raises LedgerError.
    """

    def __init__(self, path: str, node: str) -> None:
        self._path = path
        self._uri = f"file:{urllib.parse.quote(path)}?mode=ro"
        self._node = node

    def runs(self, limit: int) -> Sequence[RunRecord]:
        """The `limit` runs that began last, newest first."""
        where = f"id > {DEPARTED_ID} ORDER BY started DESC, id DESC LIMIT ?"
        return self._records(where, (limit,))

    def find(self, run_id: str) -> Sequence[RunRecord]:
        """The runs that are shown under this id, newest first."""
        where = f"shown_id = ? AND id > {DEPARTED_ID} ORDER BY started DESC, id DESC"
        return self._records(where, (run_id,))

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        with (
            explained(self._path),
            contextlib.closing(Connection(self._uri, uri=True, isolation_level=None)) as connection,
        ):
            connection.execute("BEGIN")  # one state for all that is read
            (wall,) = connection.execute("SELECT wall FROM meta").fetchone()
            return [
                RunRecord(
                    run=row.run,
                    parts=tuple(
                        Part(line.device, line.method, line.split, balance.total)
                        for line, balance in lines(connection, row).items()
                    ),
                    factors=factor_uses(connection, row),
                    at=wall,
                    node=self._node,
                )
                for row in parties(connection, where, values)
                if row.run is not None
            ]
