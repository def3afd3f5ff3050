"""Departed runs: moves the totals of runs into DEPARTED_RUNS and back; sums by owner."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from exporter.account.accounts import ZERO_BALANCE, Accounts
from exporter.model.ledger import ZERO_AMOUNT, Amount, Balance, StoredRun
from exporter.model.runs import DEPARTED_RUNS, OTHER_OWNER, Owner, RunInfo, RunKey, owner_of

MAX_DEPARTURES_PER_TICK = 20
"""Most runs removed in one tick, so that many runs that end together do not delay it."""


class DepartedRuns:
    """Tracks runs that await their stored totals, that are leaving, and that have departed.

    A run leaves when all of it is in the ledger. When it returns, its stored totals are moved back.
    Neither changes a sum over a device.
    """

    def __init__(self, lines: Accounts, restored_seq: int) -> None:
        self._lines = lines
        self._restored_seq = restored_seq
        self._sent_seq: dict[RunKey, int] = {}
        self._leaving: set[RunKey] = set()
        self._departed: set[RunKey] = set()
        self.awaiting_history: set[RunKey] = set()
        """New runs whose stored totals `restore_run` has not added yet."""

    @property
    def leaving(self) -> AbstractSet[RunKey]:
        """The runs that are to be removed once all of them is in the ledger."""
        return self._leaving

    def leave(self, key: RunKey) -> None:
        """Remove the run as soon as `apply_committed` finds all of it in the ledger."""
        self._leaving.add(key)

    def stay(self, key: RunKey) -> None:
        """Cancel the removal of a run."""
        self._leaving.discard(key)

    def forget(self, key: RunKey) -> None:
        """Stop tracking a run that was merged into another one."""
        self._leaving.discard(key)
        self._sent_seq.pop(key, None)

    def record_sent(self, keys: Iterable[RunKey], seq: int) -> None:
        """Record that the batch `seq` has data of these runs."""
        self._sent_seq.update(dict.fromkeys(keys, seq))

    def apply_committed(
        self, committed_seq: int, unsent: AbstractSet[RunKey]
    ) -> list[tuple[RunKey, Amount]]:
        """Remove the leaving runs that are completely in batches up to `committed_seq`.

        `unsent` are runs with changes other than amounts that no batch has yet. Returns each
        removed run with its counted amount.
        """
        ready = (
            key
            for key in sorted(self._leaving - unsent - self.awaiting_history)
            if self._sent_seq.get(key, self._restored_seq) <= committed_seq
            and all(account.sent is account.balance for account in self._lines.of(key))
        )
        return [(key, self._remove(key)) for key in list(islice(ready, MAX_DEPARTURES_PER_TICK))]

    def restore_run(self, stored: StoredRun) -> None:
        """Move a run's stored totals back from DEPARTED_RUNS; its counters continue unchanged."""
        self.awaiting_history.discard(stored.key)
        self._departed.discard(stored.key)
        for line, balance in stored.lines.items():
            uncounted = Balance(balance.total, balance.total)
            departed = self._lines.at(line._replace(target=DEPARTED_RUNS))
            self._lines.move(self._lines.at(line), uncounted)
            self._lines.move(departed, ZERO_BALANCE.minus(uncounted))

    def pop_departed(self) -> tuple[RunKey, ...]:
        """Return the runs that departed since the last call."""
        departed, self._departed = self._departed, set()
        return tuple(sorted(departed))

    def _remove(self, key: RunKey) -> Amount:
        counted = ZERO_AMOUNT
        for account in self._lines.close(key):
            counted = counted.plus(account.balance.counted)
            departed = self._lines.at(account.line._replace(target=DEPARTED_RUNS))
            self._lines.move(departed, account.balance)
            departed.window_uj += account.window_uj
        self._leaving.discard(key)
        self._departed.add(key)
        self._sent_seq.pop(key, None)
        return counted


MAX_OWNERS = 1_000
"""Most owners with sums of their own; the energy of further ones is added to `other`."""


class OwnerTotals:
    """Sums of departed runs by owner. They never decrease, and no owner is removed."""

    def __init__(
        self, restored: Mapping[Owner, tuple[int, int]], exported_labels: Collection[str]
    ) -> None:
        self._exported_labels = exported_labels
        self._sums = dict(restored)
        self._changed: set[Owner] = set()
        self.totals: tuple[tuple[Owner, int, int], ...] = self._show()
        """Energy (uJ) and carbon (ng) by owner; the same object while nothing has changed."""

    def owner_for(self, run: RunInfo, known: RunInfo | None) -> Owner | None:
        """Return a run's owner: the settled one of `known`, else the one derived from `run`.

        None if it may still change because the user's name is unknown or the run is provisional.
        An owner's counter never decreases, so the energy of such a run is added to it only when
        the owner is settled.
        """
        if known is not None and known.owner is not None:
            return known.owner
        if not run.is_user_known or (run.is_provisional and run.ended is None):
            return None
        return owner_of(run, self._exported_labels)

    def add(self, run: RunInfo, energy_uj: int, carbon_ng: int) -> None:
        """Add the counted amount of a departing run to its owner."""
        self.credit(self.owner_for(run, run) or self._unnamed(run), energy_uj, carbon_ng)

    def credit(self, owner: Owner, energy_uj: int, carbon_ng: int) -> None:
        """Add an amount to the sums of an owner."""
        if owner not in self._sums and len(self._sums) >= MAX_OWNERS:
            owner = OTHER_OWNER
        sum_uj, sum_ng = self._sums.get(owner, (0, 0))
        self._sums[owner] = sum_uj + energy_uj, sum_ng + carbon_ng
        self._changed.add(owner)
        self.totals = self._show()

    def _unnamed(self, run: RunInfo) -> Owner:
        named = run if run.is_user_known else run._replace(user=str(run.key.uid))
        return owner_of(named, self._exported_labels)

    def backfill(self, owner: Owner, carbon_ng: int) -> None:
        """Add late carbon of a departed run."""
        owner = owner if owner in self._sums else OTHER_OWNER
        if owner in self._sums:
            sum_uj, sum_ng = self._sums[owner]
            self._sums[owner] = sum_uj, sum_ng + carbon_ng
            self._changed.add(owner)
            self.totals = self._show()

    def pop_changes(self) -> dict[Owner, tuple[int, int]]:
        """Return the sums that changed since the last call."""
        changed, self._changed = self._changed, set()
        return {owner: self._sums[owner] for owner in changed}

    def _show(self) -> tuple[tuple[Owner, int, int], ...]:
        return tuple([(owner, *sums) for owner, sums in self._sums.items()])
