"""Books: running totals of all accounts in memory, with a check of every interval's postings."""

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
"""After this many windows without an interval, a device's power is unknown."""

INITIAL_SPLITS = {DeviceKind.CPU: SplitMethod.CPU_TIME, DeviceKind.DRAM: SplitMethod.MEMORY}
"""Accounts that are opened when a run begins. Those of GPUs are opened when it uses them."""


class Books:
    """All running totals, in memory only; used by the main loop's thread.

    Power is the mean over the shortest sequence of intervals that lasts at least
    `power_window_ns` (> 0).
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
        """Sum of differences between intervals and their postings; other than 0 it is a defect."""
        for line, balance in restored.lines.items():
            self._lines.open(line, balance).sent = balance

    def register_devices(self, infos: Iterable[DeviceInfo]) -> None:
        """Open accounts of devices at zero, so that their series exist from the first scrape.

        Cheap to call every tick.
        """
        for info in infos:
            if self._infos.get(info.device) == info:
                continue
            self._infos[info.device] = info
            is_rest = info.device.kind is DeviceKind.REST
            reason = UnattributedReason.OTHER if is_rest else UnattributedReason.IDLE
            self._lines.at(AccountKey(info.device, reason, info.method, SplitMethod.REST))
            for run in self._runs.values():
                self._begin_lines(run, [info])

    def update_run(self, run: RunInfo) -> None:
        """Record that a run began, changed or ended.

        The accounts of a run that is new here stay out of batches until `restore_run` has added
        its stored totals; otherwise the batch would overwrite those totals.
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
        """Merge a provisional run into another one, with all its accounts.

        Returns False if the stored totals of one of the two are still to be restored; call again
        later. An owner's counter never decreases: if the old run's owner was settled and differs
        from that of the new run, its counter keeps the amounts that it has shown, and the new
        owner's counter does not include them.
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
        """Book the postings of one tick's intervals.

        If postings do not sum to the energy of their interval, the difference is added to
        `imbalance_uj` and a missing amount is booked as `other`, so that the device's energy is
        complete. Late postings of a departed run are booked on DEPARTED_RUNS, which has the run's
        totals: the sums are right, and the run's row in the ledger keeps the values with which it
        left. An `uncounted` interval is added to totals only: the counters may have shown its
        energy before they restarted at zero.
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
        for device, window in self._lines.windows.items():
            if window.end_ns >= late_ns or window.power_watts is None:
                continue
            # The meter of a node has an interval of its own, which may be that of a scrape.
            own_ns = window.full_ns if device.kind is DeviceKind.REST else 0
            if window.end_ns < at_ns - STALE_WINDOWS * own_ns:
                window.forget()

    def remove_run(self, key: RunKey) -> None:
        """Remove a run as soon as `apply_committed` finds all of it in the ledger."""
        if key in self._runs:
            self._departures.leave(key)

    def apply_committed(self, committed_seq: int) -> None:
        """Remove leaving runs that are completely in batches up to `committed_seq`.

        Their totals are added to DEPARTED_RUNS; no sum over a device changes.
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

    def restore_run(self, stored: StoredRun) -> None:
        """Add a run's stored totals to what it has used since it returned.

        Its counters continue unchanged; no sum over a device changes. Does nothing if the run is
        not waiting for its stored totals.
        """
        if stored.key not in self._departures.awaiting_history:
            return
        if self._merges.is_unwritten(stored.key):
            stored = StoredRun(stored.key)  # the ledger still has the run that was merged away
        self._departures.restore_run(stored)
        for use in stored.factor_uses:
            self._lines.factor_uses_of(stored.key).add(*use)
        self._put_run(with_stored_run(self._runs[stored.key], stored.info))

    def backfill(self, fill: Backfill) -> None:
        """Add carbon whose intensity arrived late; the ledger already has it."""
        self._filling.apply(
            self._merges.backfill(fill), self._runs.keys() - self._departures.awaiting_history
        )

    def rows(self) -> tuple[AccountSnapshot, ...]:
        """Return all accounts, including those of DEPARTED_RUNS."""
        return tuple(
            [account.row or account.to_snapshot() for account in self._lines.accounts.values()]
        )

    def powers(self) -> Mapping[Device, float]:
        """Return the power in watts of the devices with a known power."""
        return {
            device: window.power_watts
            for device, window in self._lines.windows.items()
            if window.power_watts is not None
        }

    def owners(self) -> tuple[tuple[Owner, int, int], ...]:
        """Return the counted energy (uJ) and carbon (ng) of departed runs by owner."""
        return self._owners.totals

    def owner_of(self) -> Mapping[RunKey, Owner]:
        """Return the owner of each run that has a settled one."""
        return self._owner_of

    def leaving(self) -> tuple[RunInfo, ...]:
        """Return the runs that are no longer published but still have accounts."""
        return tuple([self._runs[key] for key in self._departures.leaving])

    def used(self, key: RunKey) -> Amount:
        """Return a run's total, without stored totals that are still to be restored."""
        return sum_amounts(account.balance.total for account in self._lines.of(key))

    def factor_uses(self) -> Mapping[RunKey, tuple[FactorUse, ...]]:
        """Return the factors with which each run's energy was converted."""
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
        """Return the current state for the journal. `wall` is in Unix seconds."""
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
        """Return the changes since the last batch and mark them as sent.

        After a `backfill` a checkpoint has to be written to the journal first.
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
        new_infos = tuple(info for info in infos if self._sent_infos.get(info.device) != info)
        self._sent_infos.update((info.device, info) for info in new_infos)
        return Batch(
            seq=seq,
            at_ns=at_ns,
            wall=wall,
            counter_states=counter_states,
            lines=lines,
            usage=usage,
            runs=tuple(self._runs[key] for key in runs),
            floors=dict(floors),
            infos=new_infos,
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
        if owner is not None and self._owner_of.get(run.key) != owner:
            # Replaced, not changed in place: a snapshot refers to it.
            self._owner_of = {**self._owner_of, run.key: owner}
        self._changed.add(run.key)
        self._layout = None

    def _book(self, entry: Posting) -> None:
        # The slice equals an AccountKey, at a third of the cost of creating one.
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
                "postings do not sum to the energy of their interval; "
                "please report this with the exporter's version",
                extra={"device": " ".join(interval.device), "missing_microjoules": missing_uj},
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
