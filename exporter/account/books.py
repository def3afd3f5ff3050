"""The running totals in memory, and the one place that checks that nothing is lost or invented."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

from exporter.account.accounts import Accounts
from exporter.account.backfill import BackfillApplier
from exporter.account.departed_runs import DepartedRuns, OwnerTotals
from exporter.account.journal_format import Checkpoint, CheckpointLayout
from exporter.account.run_merges import RunMerges
from exporter.model.intensity import Factor
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    Backfill,
    Balance,
    Batch,
    FactorUse,
    HostCpuTime,
    IntervalPostings,
    Posting,
    RestoredState,
    RunCpuTime,
    StoredRun,
    sum_amounts,
)
from exporter.model.readings import CounterState, Device, DeviceInfo, DeviceKind, Interval
from exporter.model.runs import DEPARTED_RUNS, Owner, RunInfo, RunKey, RunMerge, with_stored_run
from exporter.model.snapshot import AccountSnapshot
from exporter.model.workload import SplitMethod, UnattributedReason
from exporter.units import SECONDS_PER_MINUTE

log = logging.getLogger(__name__)

STALE_WINDOWS = 3
"""A device without an interval for this many windows has no power."""

INITIAL_SPLITS = {DeviceKind.CPU: SplitMethod.CPU_TIME, DeviceKind.DRAM: SplitMethod.MEMORY}
"""Lines that a run has from its first moment; which GPUs it will use nobody knows yet."""


class Books:
    """All running totals; owned by the loop, in memory only.

    A power is the mean over `power_window_ns` (> 0) or the shortest run of intervals beyond it.
    """

    def __init__(
        self, restored: RestoredState, power_window_ns: int, exported_labels: Collection[str] = ()
    ) -> None:
        self._power_window_ns = power_window_ns
        self._owners = OwnerTotals(restored.owners, exported_labels)
        self._lines = Accounts(restored.factor_uses)
        self._departures = DepartedRuns(self._lines, restored.seq)
        self._merges = RunMerges(self._lines, restored.merged, restored.seq)
        self._filling = BackfillApplier(self._lines, self._owners, restored.backfill_id)
        self._runs = {run.key: run for run in restored.runs}
        self._owner_of: Mapping[RunKey, Owner] = {
            run.key: owner
            for run in restored.runs
            if (owner := self._owners.owner_for(run, run)) is not None
        }
        self._infos: dict[Device, DeviceInfo] = {}
        self._changed: set[RunKey] = set()
        self._sent_infos: dict[Device, DeviceInfo] = {}
        self._layout: CheckpointLayout | None = None
        self.imbalance_uj = 0
        """Energy by which postings missed their intervals; always 0, or something is wrong."""
        for line, balance in restored.lines.items():
            self._lines.open(line, balance).sent = balance

    def register_devices(self, infos: Iterable[DeviceInfo]) -> None:
        """Begin the lines of devices at zero, so that their series are there from the first page.

        Cheap to call every tick.
        """
        for info in infos:
            if self._infos.get(info.device) == info:
                continue
            self._infos[info.device] = info
            self._lines.at(
                AccountKey(info.device, UnattributedReason.IDLE, info.method, SplitMethod.REST)
            )
            for run in self._runs.values():
                self._begin_lines(run, [info])

    def update_run(self, run: RunInfo) -> None:
        """Take in that a run began, changed or ended.

        What is booked on a run that is new here stays out of the batches until `rejoin` told
        what the ledger knows of it, lest an old total be overwritten by a new one.
        """
        known = self._runs.get(run.key)
        if known is None:
            self._departures.awaiting_history.add(run.key)
            self._merges.unmerge(run.key)
        self._put_run(run._replace(owner=self._owners.owner_for(run, known)))
        if run.ended is None:
            self._departures.stay(run.key)
            self._begin_lines(run, self._infos.values())

    def merge(self, merge: RunMerge) -> bool:
        """Have a provisional run become another one, with all that was booked on it.

        False where that has to wait: the ledger was not heard yet of what it knows of the two. The
        counter of an owner takes what the run used once, and none ever falls: where the owner of
        the old run was settled and is another one, its counter keeps what it has shown.
        """
        old, new, is_counted = merge
        if old not in self._runs or new not in self._runs:
            return True
        if self._departures.awaiting_history & {old, new}:
            return False
        was, owner = self._owner_of.get(old), self._owner_of.get(new)
        is_counted = (is_counted and was in (None, owner)) or (was is None and owner is None)
        counted = self._merges.merge(old, new, is_counted=is_counted)
        credited = was or owner
        if not is_counted and credited is not None:
            self._owners.credit(credited, counted.energy_uj, counted.carbon_ng)
        self._departures.forget(old)
        del self._runs[old]
        self._changed.discard(old)
        self._owner_of = {key: each for key, each in self._owner_of.items() if key != old}
        self._put_run(self._runs[new])
        return True

    def post(self, postings: Sequence[IntervalPostings], at_ns: int) -> None:
        """Book the intervals of one tick.

        Entries that miss their interval's energy are counted in `imbalance_uj`; what they leave
        of it is booked as `other`, so that a device's energy is never short. What comes late for a
        run that has left is booked on DEPARTED, where the run's totals went: the sums are right,
        and the run's own row in the ledger stays as it was when it left. What is `uncounted` is
        for the totals alone: the counters may have shown it before they began at zero.
        """
        for interval, entries in postings:
            window = self._lines.window(interval.device)
            before = {a: a.balance.total for a in window.accounts} if interval.uncounted else {}
            booked_uj = 0
            for entry in entries:
                if entry.energy_uj < 0 or entry.held_uj < 0 or entry.carbon_ng < 0:
                    continue
                self._book(entry)
                booked_uj += entry.energy_uj
            if booked_uj != interval.energy_uj:
                self._balance_out(interval, booked_uj)
            for account in window.accounts if interval.uncounted else ():
                self._lines.exclude_from_counter(account, before.get(account, ZERO_AMOUNT))
            window.advance(interval.t0_ns, interval.t1_ns, self._power_window_ns)
        late_ns = at_ns - STALE_WINDOWS * self._power_window_ns
        for window in self._lines.windows.values():
            if window.end_ns < late_ns and window.power_watts is not None:
                window.forget()

    def remove_run(self, key: RunKey) -> None:
        """Let a run leave the page at the next `settle` that finds all of it in the ledger."""
        if key in self._runs:
            self._departures.leave(key)

    def apply_committed(self, committed_seq: int) -> None:
        """Let leaving runs go whose every amount is in a batch up to `committed_seq`.

        Their totals go over into those of DEPARTED; no sum over a device changes.
        """
        for key, counted in self._departures.apply_committed(committed_seq, self._changed):
            self._owners.add(self._runs.pop(key), counted.energy_uj, counted.carbon_ng)
            self._owner_of = {
                key: each for key, each in self._owner_of.items() if key in self._runs
            }
            self._merges.forget(key)
            self._layout = None
        if self._merges.apply_committed(committed_seq):
            self._layout = None

    def restore_run(self, past: StoredRun) -> None:
        """Add what the ledger knows of a run to what it used since it was noted here.

        Its counters go on from where they are; no sum over a device changes. A run that is not
        waiting for its past is left as it is.
        """
        if past.key not in self._departures.awaiting_history:
            return
        if self._merges.is_unwritten(past.key):
            past = StoredRun(past.key)  # the ledger speaks of a run that has become another one
        self._departures.restore_run(past)
        for use in past.factor_uses:
            self._lines.factor_uses_of(past.key).add(*use)
        self._put_run(with_stored_run(self._runs[past.key], past.info))

    def backfill(self, fill: Backfill) -> None:
        """Add grams that came after their energy; in the ledger they are already."""
        self._filling.apply(
            self._merges.backfill(fill), self._runs.keys() - self._departures.awaiting_history
        )

    def rows(self) -> tuple[AccountSnapshot, ...]:
        """Every line, those of DEPARTED included."""
        return tuple(
            [account.row or account.to_snapshot() for account in self._lines.accounts.values()]
        )

    def powers(self) -> Mapping[Device, float]:
        """Watts of the devices whose power is known."""
        return {
            device: window.power_watts
            for device, window in self._lines.windows.items()
            if window.power_watts is not None
        }

    def owners(self) -> tuple[tuple[Owner, int, int], ...]:
        """What counters showed of runs that have left, microjoules and nanograms by owner."""
        return self._owners.totals

    def owner_of(self) -> Mapping[RunKey, Owner]:
        """Whose the runs are that are here, as far as that is settled."""
        return self._owner_of

    def leaving(self) -> tuple[RunInfo, ...]:
        """Runs that are off the page, and whose lines are still there."""
        return tuple([self._runs[key] for key in self._departures.leaving])

    def used(self, key: RunKey) -> Amount:
        """What a run has used so far, as far as that is known here."""
        return sum_amounts(account.balance.total for account in self._lines.of(key))

    def factor_uses(self) -> Mapping[RunKey, tuple[FactorUse, ...]]:
        """What each run's energy was converted with."""
        return {key: uses.totals() for key, uses in self._lines.uses.items()}

    def checkpoint(
        self,
        *,
        seq: int,
        at_ns: int,
        wall: float,
        counter_states: tuple[CounterState, ...],
        run_cpu: tuple[RunCpuTime, ...],
        machine_cpu: HostCpuTime | None,
        factor: Factor | None,
    ) -> Checkpoint:
        """The books as they are now, for the journal."""
        self._lines.minute = int(wall // SECONDS_PER_MINUTE)
        accounts = self._lines.accounts
        if self._layout is None or self._lines.changed:
            self._lines.changed = False
            self._layout = CheckpointLayout(
                lines=tuple(accounts),
                bases=tuple([account.balance.base for account in accounts.values()]),
                runs=tuple(self._runs.values()),
                awaiting_history=tuple(sorted(self._departures.awaiting_history)),
                owners=self._owners.totals,
                backfill_id=self._filling.last,
                merged=self._merges.unwritten(),
            )
        totals = tuple([account.balance.total for account in accounts.values()])
        return Checkpoint(
            seq, at_ns, wall, self._layout, totals, counter_states, run_cpu, machine_cpu, factor
        )

    def batch(
        self,
        *,
        seq: int,
        at_ns: int,
        wall: float,
        counter_states: tuple[CounterState, ...],
        floors: Mapping[Device, float],
        infos: Iterable[DeviceInfo],
        clean: bool = False,
    ) -> Batch:
        """What changed since the last batch, for the ledger; it counts as handed over.

        After a `fill` an image has to be written first.
        """
        self._lines.minute = int(wall // SECONDS_PER_MINUTE)
        waiting = self._departures.awaiting_history
        lines: dict[AccountKey, Balance] = {}
        for line, account in self._lines.accounts.items():
            self._lines.flush_usage(account)
            if account.sent is not account.balance and line.target not in waiting:
                lines[line] = account.sent = account.balance
        usage = self._lines.pop_usage(waiting)
        runs = sorted(self._changed - waiting)
        self._changed.difference_update(runs)
        parties = {line.target for line in lines}.union(runs)
        self._departures.record_sent((key for key in parties if isinstance(key, RunKey)), seq)
        merged = self._merges.pop_unsent(seq)
        if merged:
            self._layout = None
        news = tuple(info for info in infos if self._sent_infos.get(info.device) != info)
        self._sent_infos.update((info.device, info) for info in news)
        return Batch(
            seq=seq,
            at_ns=at_ns,
            wall=wall,
            counter_states=counter_states,
            lines=lines,
            usage=usage,
            runs=tuple(self._runs[key] for key in runs),
            floors=dict(floors),
            infos=news,
            clean=clean,
            departed=self._departures.pop_departed(),
            owners=self._owners.pop_changes(),
            backfill_id=self._filling.last,
            journaled_backfill_id=self._filling.last,
            merged=merged,
        )

    def _put_run(self, run: RunInfo) -> None:
        self._runs[run.key] = run
        owner = self._owners.owner_for(run, run)
        if (
            owner is not None and self._owner_of.get(run.key) != owner
        ):  # never changed in place: a snapshot has it
            self._owner_of = {**self._owner_of, run.key: owner}
        self._changed.add(run.key)
        self._layout = None

    def _book(self, entry: Posting) -> None:
        # A slice of an entry is a line by value, at a third of the cost of making one.
        account = self._lines.accounts.get(entry[1:5])  # type: ignore[call-overload]
        if account is None:
            line = AccountKey(*entry[1:5])
            if isinstance(line.target, RunKey):
                line = line._replace(target=self._merges.resolve(line.target))
            is_late = isinstance(line.target, RunKey) and line.target not in self._runs
            account = self._lines.at(line._replace(target=DEPARTED_RUNS) if is_late else line)
        if entry.minute != account.minute or entry.factor is not account.factor:
            self._lines.flush_usage(account)
            account.minute = entry.minute
            account.factor = entry.factor
        account.add(entry.energy_uj, entry.held_uj, entry.carbon_ng)

    def _balance_out(self, interval: Interval, booked_uj: int) -> None:
        missing_uj = interval.energy_uj - booked_uj
        if not self.imbalance_uj:
            log.error(
                "postings of %s %s differ from its energy by %d microjoules; "
                "please report this with the exporter's version",
                *interval.device,
                missing_uj,
            )
        self.imbalance_uj += abs(missing_uj)
        if missing_uj > 0:
            line = AccountKey(
                interval.device, UnattributedReason.OTHER, interval.method, SplitMethod.REST
            )
            self._book(Posting(self._lines.minute, *line, None, missing_uj, 0, 0))

    def _begin_lines(self, run: RunInfo, infos: Iterable[DeviceInfo]) -> None:
        if run.ended is not None:
            return
        for info in infos:
            split = INITIAL_SPLITS.get(info.device.kind)
            if split is not None:
                self._lines.at(AccountKey(info.device, run.key, info.method, split))
