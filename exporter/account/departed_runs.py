"""Runs on their way off the page, into the sums of DEPARTED, and back out of them."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from exporter.account.accounts import ZERO_BALANCE, Accounts
from exporter.model.ledger import ZERO_AMOUNT, Amount, Balance, StoredRun
from exporter.model.runs import DEPARTED_RUNS, OTHER_OWNER, Owner, RunInfo, RunKey, owner_of

MAX_DEPARTURES_PER_TICK = 20
"""Runs that leave in one tick at most, so that many that end together do not hold it up."""


class DepartedRuns:
    """Who waits for its past, who waits to leave, and who has left.

    A run comes with an unknown past and leaves with all of it in the ledger. Neither changes a sum
    over a device.
    """

    def __init__(self, lines: Accounts, restored_seq: int) -> None:
        self._lines = lines
        self._restored_seq = restored_seq
        self._sent_seq: dict[RunKey, int] = {}
        self._leaving: set[RunKey] = set()
        self._gone: set[RunKey] = set()
        self.awaiting_history: set[RunKey] = set()
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

    def record_sent(self, keys: Iterable[RunKey], seq: int) -> None:
        """Take in that something of these runs is in the batch `seq`."""
        self._sent_seq.update(dict.fromkeys(keys, seq))

    def apply_committed(
        self, committed_seq: int, unsent: AbstractSet[RunKey]
    ) -> list[tuple[RunKey, Amount]]:
        """Let go who may leave: all of the run is in a batch up to `committed_seq`.

        `unsent` are those of which the ledger has yet to be told something else than amounts.
        The answer says what counters showed of each.
        """
        ready = (
            key
            for key in sorted(self._leaving - unsent - self.awaiting_history)
            if self._sent_seq.get(key, self._restored_seq) <= committed_seq
            and all(account.sent is account.balance for account in self._lines.of(key))
        )
        return [(key, self._let_go(key)) for key in list(islice(ready, MAX_DEPARTURES_PER_TICK))]

    def restore_run(self, past: StoredRun) -> None:
        """Take a run's old totals out of DEPARTED again; its counters go on from where they are."""
        self.awaiting_history.discard(past.key)
        self._gone.discard(past.key)
        for line, balance in past.lines.items():
            uncounted = Balance(balance.total, balance.total)
            departed = self._lines.at(line._replace(target=DEPARTED_RUNS))
            self._lines.move(self._lines.at(line), uncounted)
            self._lines.move(departed, ZERO_BALANCE.minus(uncounted))

    def pop_departed(self) -> tuple[RunKey, ...]:
        """Who has left since the last call."""
        gone, self._gone = self._gone, set()
        return tuple(sorted(gone))

    def _let_go(self, key: RunKey) -> Amount:
        counted = ZERO_AMOUNT
        for account in self._lines.close(key):
            counted = counted.plus(account.balance.counted)
            departed = self._lines.at(account.line._replace(target=DEPARTED_RUNS))
            self._lines.move(departed, account.balance)
            departed.window_uj += account.window_uj
        self._leaving.discard(key)
        self._gone.add(key)
        self._sent_seq.pop(key, None)
        return counted


MAX_OWNERS = 1_000
"""Owners with a sum of their own; those beyond are added up as `other`, when they come."""


class OwnerTotals:
    """The sums; they only ever grow, and no owner is taken away."""

    def __init__(
        self, restored: Mapping[Owner, tuple[int, int]], exported_labels: Collection[str]
    ) -> None:
        self._exported_labels = exported_labels
        self._sums = dict(restored)
        self._changed: set[Owner] = set()
        self.totals: tuple[tuple[Owner, int, int], ...] = self._show()
        """Microjoules and nanograms by owner; the same object as long as nothing changed."""

    def owner_for(self, run: RunInfo, known: RunInfo | None) -> Owner | None:
        """Whose a run is: what was settled when it came to the page, else what is known now.

        None where that may change: the name of the user is not known, or the run is provisional.
        An owner's counter never falls, so what such a run used is added to it when that is known.
        """
        if known is not None and known.owner is not None:
            return known.owner
        if not run.is_user_known or (run.is_provisional and run.ended is None):
            return None
        return owner_of(run, self._exported_labels)

    def add(self, run: RunInfo, energy_uj: int, carbon_ng: int) -> None:
        """Take over what a counter showed of a run that leaves."""
        self.credit(self.owner_for(run, run) or self._unnamed(run), energy_uj, carbon_ng)

    def credit(self, owner: Owner, energy_uj: int, carbon_ng: int) -> None:
        """Add to the sums of an owner."""
        if owner not in self._sums and len(self._sums) >= MAX_OWNERS:
            owner = OTHER_OWNER
        known_uj, known_ng = self._sums.get(owner, (0, 0))
        self._sums[owner] = known_uj + energy_uj, known_ng + carbon_ng
        self._changed.add(owner)
        self.totals = self._show()

    def _unnamed(self, run: RunInfo) -> Owner:
        named = run if run.is_user_known else run._replace(user=str(run.key.uid))
        return owner_of(named, self._exported_labels)

    def backfill(self, owner: Owner, carbon_ng: int) -> None:
        """Add late grams of a run that has left."""
        owner = owner if owner in self._sums else OTHER_OWNER
        if owner in self._sums:
            known_uj, known_ng = self._sums[owner]
            self._sums[owner] = known_uj, known_ng + carbon_ng
            self._changed.add(owner)
            self.totals = self._show()

    def pop_changes(self) -> dict[Owner, tuple[int, int]]:
        """The sums that changed since the last call."""
        changed, self._changed = self._changed, set()
        return {owner: self._sums[owner] for owner in changed}

    def _show(self) -> tuple[tuple[Owner, int, int], ...]:
        return tuple([(owner, *sums) for owner, sums in self._sums.items()])
