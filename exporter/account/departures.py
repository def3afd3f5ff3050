"""Runs on their way off the page, into the sums of DEPARTED, and back out of them."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import islice

from exporter.account.lines import ZERO, Lines
from exporter.model.books import NOTHING, Amount, Balance, Past
from exporter.model.runs import DEPARTED, RunKey

AT_ONCE = 20
"""Runs that leave in one tick at most, so that many that end together do not hold it up."""


class Departures:
    """Who waits for its past, who waits to leave, and who has left.

    A run comes with an unknown past and leaves with all of it in the ledger. Neither changes a sum
    over a device.
    """

    def __init__(self, lines: Lines, restored_seq: int) -> None:
        self._lines = lines
        self._restored_seq = restored_seq
        self._sent_seq: dict[RunKey, int] = {}
        self._leaving: set[RunKey] = set()
        self._gone: set[RunKey] = set()
        self.joining: set[RunKey] = set()
        """Runs that are new here, until `rejoin` tells what the ledger knows of them."""

    @property
    def leaving(self) -> AbstractSet[RunKey]:
        """Runs that are to leave and have not yet."""
        return self._leaving

    def leave(self, key: RunKey) -> None:
        """Have the run leave at the next `settle` that finds all of it in the ledger."""
        self._leaving.add(key)

    def stay(self, key: RunKey) -> None:
        """Have the run leave no more."""
        self._leaving.discard(key)

    def forget(self, key: RunKey) -> None:
        """The run has become another one."""
        self._leaving.discard(key)
        self._sent_seq.pop(key, None)

    def note_sent(self, keys: Iterable[RunKey], seq: int) -> None:
        """Take in that something of these runs is in the batch `seq`."""
        self._sent_seq.update(dict.fromkeys(keys, seq))

    def settle(
        self, committed_seq: int, unsent: AbstractSet[RunKey]
    ) -> list[tuple[RunKey, Amount]]:
        """Let go who may leave: all of the run is in a batch up to `committed_seq`.

        `unsent` are those of which the ledger has yet to be told something else than amounts.
        The answer says what counters showed of each.
        """
        ready = (
            key
            for key in sorted(self._leaving - unsent - self.joining)
            if self._sent_seq.get(key, self._restored_seq) <= committed_seq
            and all(account.sent is account.balance for account in self._lines.of(key))
        )
        return [(key, self._let_go(key)) for key in list(islice(ready, AT_ONCE))]

    def rejoin(self, past: Past) -> None:
        """Take a run's old totals out of DEPARTED again; its counters go on from where they are."""
        self.joining.discard(past.key)
        self._gone.discard(past.key)
        for line, balance in past.lines.items():
            uncounted = Balance(balance.total, balance.total)
            departed = self._lines.at(line._replace(party=DEPARTED))
            self._lines.move(self._lines.at(line), uncounted)
            self._lines.move(departed, ZERO.minus(uncounted))

    def take_gone(self) -> tuple[RunKey, ...]:
        """Who has left since the last call."""
        gone, self._gone = self._gone, set()
        return tuple(sorted(gone))

    def _let_go(self, key: RunKey) -> Amount:
        counted = NOTHING
        for account in self._lines.close(key):
            counted = counted.plus(account.balance.counted)
            departed = self._lines.at(account.line._replace(party=DEPARTED))
            self._lines.move(departed, account.balance)
            departed.window_uj += account.window_uj
        self._leaving.discard(key)
        self._gone.add(key)
        self._sent_seq.pop(key, None)
        return counted
