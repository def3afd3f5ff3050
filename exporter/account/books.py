"""The running totals in memory, and the one place that checks that nothing is lost or invented."""

import logging
from collections.abc import Iterable, Mapping, Sequence

from exporter.account.accounts import Account, FactorUses, Window
from exporter.account.image import Image, Layout
from exporter.model.books import (
    NOTHING,
    Amount,
    Balance,
    Batch,
    Entry,
    FactorUse,
    Line,
    MachineCpu,
    Past,
    Posting,
    Restored,
    RunCpu,
    UsageKey,
)
from exporter.model.intensity import Factor
from exporter.model.readings import Device, DeviceInfo, Interval, Kind, Position
from exporter.model.runs import DEPARTED, RunInfo, RunKey
from exporter.model.snapshot import Row
from exporter.model.workload import Party, Reason, Split

log = logging.getLogger(__name__)

ZERO = Balance(NOTHING)
LATE_WINDOWS = 3
"""A device without an interval for this many windows has no power."""

RUN_SPLITS = {Kind.CPU: Split.CPU_TIME, Kind.DRAM: Split.MEMORY}
"""Lines that a run has from its first moment; which GPUs it will use nobody knows yet."""


class Books:
    """All running totals; owned by the loop, in memory only.

    A power is the mean over `power_window_ns` (> 0) or the shortest run of intervals beyond it.
    """

    def __init__(self, restored: Restored, power_window_ns: int) -> None:
        self._power_window_ns = power_window_ns
        self._restored_seq = restored.seq
        self._accounts: dict[Line, Account] = {}
        self._windows: dict[Device, Window] = {}
        self._infos: dict[Device, DeviceInfo] = {}
        self._runs = {run.key: run for run in restored.runs}
        self._uses = {key: FactorUses(uses) for key, uses in restored.factor_uses.items()}
        self._usage: dict[UsageKey, Amount] = {}
        self._changed: set[RunKey] = set()
        self._joining: set[RunKey] = set()
        self._leaving: set[RunKey] = set()
        self._departed: set[RunKey] = set()
        self._sent_seq: dict[RunKey, int] = {}
        self._sent_infos: dict[Device, DeviceInfo] = {}
        self._layout: Layout | None = None
        self._minute = 0
        self.imbalance_uj = 0
        """Energy by which postings missed their intervals; always 0, or something is wrong."""
        for line, balance in restored.lines.items():
            self._open(line, balance).sent = balance

    def declare(self, infos: Iterable[DeviceInfo]) -> None:
        """Begin the lines of devices at zero, so that their series are there from the first page.

        Cheap to call every tick.
        """
        for info in infos:
            if self._infos.get(info.device) == info:
                continue
            self._infos[info.device] = info
            self._account(Line(info.device, Reason.IDLE, info.method, Split.REST))
            for run in self._runs.values():
                self._begin_lines(run, [info])

    def note_run(self, run: RunInfo) -> None:
        """Take in that a run began, changed or ended.

        What is booked on a run that is new here stays out of the batches until `rejoin` told
        what the ledger knows of it, lest an old total be overwritten by a new one.
        """
        if run.key not in self._runs:
            self._joining.add(run.key)
        self._runs[run.key] = run
        self._changed.add(run.key)
        self._layout = None
        if run.ended is None:
            self._leaving.discard(run.key)
        self._begin_lines(run, self._infos.values())

    def post(self, postings: Sequence[Posting], at_ns: int) -> None:
        """Book the intervals of one tick.

        Entries that miss their interval's energy are counted in `imbalance_uj`; what they leave
        of it is booked as `other`, so that a device's energy is never short.
        """
        for interval, entries in postings:
            booked_uj = 0
            for entry in entries:
                if entry.energy_uj < 0 or entry.held_uj < 0 or entry.carbon_ng < 0:
                    continue
                self._book(entry)
                booked_uj += entry.energy_uj
            if booked_uj != interval.energy_uj:
                self._balance_out(interval, booked_uj)
            self._window(interval.device).advance(
                interval.t0_ns, interval.t1_ns, self._power_window_ns
            )
        late_ns = at_ns - LATE_WINDOWS * self._power_window_ns
        for window in self._windows.values():
            if window.end_ns < late_ns and window.power_watts is not None:
                window.forget()

    def depart(self, key: RunKey) -> None:
        """Let a run leave the page at the next `settle` that finds all of it in the ledger."""
        if key in self._runs:
            self._leaving.add(key)

    def settle(self, committed_seq: int) -> None:
        """Let leaving runs go whose every amount is in a batch up to `committed_seq`.

        Their totals go over into those of DEPARTED; no sum over a device changes.
        """
        for key in sorted(self._leaving):
            if key not in self._joining and self._is_committed(key, committed_seq):
                self._let_go(key)

    def rejoin(self, past: Past) -> None:
        """Add what the ledger knows of a run to what it used since it was noted here.

        Its counters go on from where they are; no sum over a device changes. A run that is not
        waiting for its past is left as it is.
        """
        if past.key not in self._joining:
            return
        self._joining.discard(past.key)
        self._departed.discard(past.key)
        self._changed.add(past.key)
        self._layout = None
        for line, balance in past.lines.items():
            uncounted = Balance(balance.total, balance.total)
            departed = self._account(line._replace(party=DEPARTED))
            self._move(self._account(line), uncounted)
            self._move(departed, ZERO.minus(uncounted))
        uses = self._uses.setdefault(past.key, FactorUses())
        for use in past.factor_uses:
            uses.add(*use)
        if past.info is not None:
            run = self._runs[past.key]
            started = min(run.started, past.info.started)
            self._runs[past.key] = run._replace(started=started)

    def rows(self) -> tuple[Row, ...]:
        """Every line, those of DEPARTED included."""
        return tuple([account.row or account.show() for account in self._accounts.values()])

    def runs(self) -> tuple[RunInfo, ...]:
        """Every run on the page, open ones first."""
        return tuple(sorted(self._runs.values(), key=lambda run: run.ended is not None))

    def powers(self) -> Mapping[Device, float]:
        """Watts of the devices whose power is known."""
        return {
            device: window.power_watts
            for device, window in self._windows.items()
            if window.power_watts is not None
        }

    def factor_uses(self) -> Mapping[RunKey, tuple[FactorUse, ...]]:
        """What each run's energy was converted with."""
        return {key: uses.shown() for key, uses in self._uses.items()}

    def image(
        self,
        *,
        seq: int,
        at_ns: int,
        wall: float,
        positions: tuple[Position, ...],
        run_cpu: tuple[RunCpu, ...],
        machine_cpu: MachineCpu | None,
        factor: Factor | None,
    ) -> Image:
        """The books as they are now, for the journal."""
        accounts = self._accounts.values()
        if self._layout is None:
            self._layout = Layout(
                lines=tuple(self._accounts),
                bases=tuple([account.balance.base for account in accounts]),
                runs=tuple(self._runs.values()),
                joining=tuple(sorted(self._joining)),
            )
        totals = tuple([account.balance.total for account in accounts])
        return Image(
            seq, at_ns, wall, self._layout, totals, positions, run_cpu, machine_cpu, factor
        )

    def batch(
        self,
        *,
        seq: int,
        at_ns: int,
        wall: float,
        positions: tuple[Position, ...],
        floors: Mapping[Device, float],
        infos: Iterable[DeviceInfo],
        clean: bool = False,
    ) -> Batch:
        """What changed since the last batch, for the ledger; it counts as handed over."""
        lines: dict[Line, Balance] = {}
        for line, account in self._accounts.items():
            self._write_up(account)
            if account.sent is not account.balance and line.party not in self._joining:
                lines[line] = account.sent = account.balance
        usage = {key: used for key, used in self._usage.items() if key.party not in self._joining}
        for key in usage:
            del self._usage[key]
        runs = sorted(self._changed - self._joining)
        self._changed.difference_update(runs)
        for party in {line.party for line in lines}.union(runs):
            if isinstance(party, RunKey):
                self._sent_seq[party] = seq
        departed, self._departed = tuple(sorted(self._departed)), set()
        news = tuple(info for info in infos if self._sent_infos.get(info.device) != info)
        self._sent_infos.update((info.device, info) for info in news)
        return Batch(
            seq=seq,
            at_ns=at_ns,
            wall=wall,
            positions=positions,
            lines=lines,
            usage=usage,
            runs=tuple(self._runs[key] for key in runs),
            floors=dict(floors),
            infos=news,
            clean=clean,
            departed=departed,
        )

    def _book(self, entry: Entry) -> None:
        # A slice of an entry is a line by value, at a third of the cost of making one.
        account = self._accounts.get(entry[1:5])  # type: ignore[call-overload]
        if account is None:
            account = self._account(Line(*entry[1:5]))
        if entry.minute != account.minute or entry.factor is not account.factor:
            self._write_up(account)
            self._minute = account.minute = entry.minute
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
            line = Line(interval.device, Reason.OTHER, interval.method, Split.REST)
            self._book(Entry(self._minute, *line, None, missing_uj, 0, 0))

    def _write_up(self, account: Account) -> None:
        """Put what the account gathered under its minute and factor into the usage."""
        used = account.balance.total.minus(account.written_up)
        if any(used):
            line = account.line
            key = UsageKey(
                account.minute, line.device, line.party, account.factor, line.method, line.split
            )
            self._usage[key] = self._usage.get(key, NOTHING).plus(used)
            account.written_up = account.balance.total

    def _move(self, account: Account, balance: Balance) -> None:
        """Add what was used and written up elsewhere."""
        self._write_up(account)
        account.balance = account.balance.plus(balance)
        account.written_up = account.balance.total
        account.row = None

    def _is_committed(self, key: RunKey, committed_seq: int) -> bool:
        return (
            key not in self._changed
            and self._sent_seq.get(key, self._restored_seq) <= committed_seq
            and all(account.sent is account.balance for account in self._accounts_of(key))
        )

    def _let_go(self, key: RunKey) -> None:
        for account in self._accounts_of(key):
            departed = self._account(account.line._replace(party=DEPARTED))
            self._move(departed, account.balance)
            departed.window_uj += account.window_uj
            self._windows[account.line.device].accounts.remove(account)
            del self._accounts[account.line]
        self._leaving.discard(key)
        self._departed.add(key)
        self._layout = None
        del self._runs[key]
        self._uses.pop(key, None)
        self._sent_seq.pop(key, None)

    def _accounts_of(self, party: Party) -> list[Account]:
        return [account for line, account in self._accounts.items() if line.party == party]

    def _account(self, line: Line) -> Account:
        return self._accounts.get(line) or self._open(line, ZERO)

    def _open(self, line: Line, balance: Balance) -> Account:
        uses = None
        if isinstance(line.party, RunKey) and line.party != DEPARTED:
            uses = self._uses.setdefault(line.party, FactorUses())
        account = self._accounts[line] = Account(line, balance, uses)
        self._window(line.device).accounts.append(account)
        self._layout = None
        return account

    def _window(self, device: Device) -> Window:
        window = self._windows.get(device)
        if window is None:
            window = self._windows[device] = Window()
        return window

    def _begin_lines(self, run: RunInfo, infos: Iterable[DeviceInfo]) -> None:
        if run.ended is not None:
            return
        for info in infos:
            split = RUN_SPLITS.get(info.device.kind)
            if split is not None:
                self._account(Line(info.device, run.key, info.method, split))
