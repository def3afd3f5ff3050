"""Accounts, factor uses and power windows: the mutable state of `Books`, which alone uses it."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from exporter import units
from exporter.model.intensity import Factor
from exporter.model.ledger import ZERO_AMOUNT, AccountKey, Amount, Balance, FactorUse, UsageKey
from exporter.model.readings import Device
from exporter.model.runs import DEPARTED_RUNS, RunKey
from exporter.model.snapshot import AccountSnapshot
from exporter.model.workload import AttributionTarget


class FactorUses:
    """Energy and carbon of one run by the factor with which they were converted."""

    def __init__(self, uses: Iterable[FactorUse] = ()) -> None:
        self._uses: dict[Factor | None, FactorUse] = {}
        self._factor: Factor | None = None
        self._energy_uj = 0
        self._carbon_ng = 0
        for use in uses:
            self.add(*use)

    def add(self, factor: Factor | None, energy_uj: int, carbon_ng: int) -> None:
        """Add an amount; a negative one is subtracted.

        Consecutive amounts of the same factor object are buffered, which is cheap.
        """
        if factor is not self._factor:
            self._close()
            self._factor = factor
        self._energy_uj += energy_uj
        self._carbon_ng += carbon_ng

    def totals(self) -> tuple[FactorUse, ...]:
        """Return the sums by factor, in the order of first use."""
        self._close()
        return tuple(self._uses.values())

    def _close(self) -> None:
        """Add the buffered amounts to the sum of the current factor."""
        if not self._energy_uj and not self._carbon_ng:
            return
        old = self._uses.get(self._factor, FactorUse(self._factor, 0, 0))
        use = self._uses[self._factor] = FactorUse(
            self._factor, old.energy_uj + self._energy_uj, old.carbon_ng + self._carbon_ng
        )
        if not use.energy_uj and not use.carbon_ng:
            del self._uses[self._factor]
        self._energy_uj = self._carbon_ng = 0


class Account:
    """Balance of one account, the part of it that the ledger does not have, and its power."""

    __slots__ = (
        "balance",
        "factor",
        "flushed_total",
        "line",
        "minute",
        "power_watts",
        "row",
        "sent",
        "uses",
        "window_uj",
    )

    def __init__(self, line: AccountKey, balance: Balance, uses: FactorUses | None) -> None:
        self.line = line
        self.balance = balance
        self.sent: Balance | None = None
        """Balance in the last batch; the same object as `balance` while nothing has changed."""
        self.flushed_total = balance.total
        """Total at the last `flush_usage`; the remainder belongs to `minute` and `factor`."""
        self.minute = 0
        self.factor: Factor | None = None
        self.uses = uses
        self.window_uj = 0
        self.power_watts: float | None = None
        self.row: AccountSnapshot | None = None

    def add(self, energy_uj: int, held_uj: int, carbon_ng: int) -> None:
        """Add an amount to the balance."""
        total, base = self.balance
        self.balance = Balance(
            Amount(
                total.energy_uj + energy_uj,
                total.held_uj + held_uj,
                total.carbon_ng + carbon_ng,
            ),
            base,
        )
        self.window_uj += energy_uj
        self.row = None
        if self.uses is not None:
            self.uses.add(self.factor, energy_uj, carbon_ng)

    def to_snapshot(self) -> AccountSnapshot:
        """Return the account as a row of the snapshot, cached until the account changes."""
        if self.row is None:
            self.row = AccountSnapshot(*self.line, self.balance, self.power_watts)
        return self.row


class PowerWindow:
    """The window over which the mean power of a device and its accounts is computed."""

    __slots__ = ("accounts", "duration_ns", "end_ns", "full_ns", "power_watts")

    def __init__(self) -> None:
        self.accounts: set[Account] = set()
        self.duration_ns = 0
        """Sum of the intervals' durations; shorter than the elapsed time if the machine slept."""
        self.end_ns = 0
        self.full_ns = 0
        """Duration over which the power was computed last."""
        self.power_watts: float | None = None

    def advance(self, t0_ns: int, t1_ns: int, window_ns: int) -> None:
        """Add an interval that is booked already; when the window is full, compute powers."""
        self.end_ns = t1_ns
        self.duration_ns += t1_ns - t0_ns
        duration_ns = self.duration_ns
        if duration_ns < window_ns:
            return
        energy_uj = 0
        for account in self.accounts:
            used_uj = account.window_uj
            if not used_uj and account.power_watts == 0.0:  # most accounts of idle runs
                continue
            energy_uj += used_uj
            account.power_watts = units.watts(used_uj, duration_ns)
            account.window_uj = 0
            account.row = None
        self.power_watts = units.watts(energy_uj, duration_ns)
        self.duration_ns, self.full_ns = 0, duration_ns

    def forget(self) -> None:
        """Set the power to unknown (None, not zero) because no interval arrived for too long."""
        self.power_watts = None
        for account in self.accounts:
            account.power_watts = None
            account.row = None


ZERO_BALANCE = Balance(ZERO_AMOUNT)


class Accounts:
    """All accounts, and the usage that is in no batch yet."""

    def __init__(self, uses: Mapping[RunKey, tuple[FactorUse, ...]]) -> None:
        self.accounts: dict[AccountKey, Account] = {}
        """Read-only for callers, like `windows` and `uses`."""
        self.windows: dict[Device, PowerWindow] = {}
        self.uses = {key: FactorUses(of_run) for key, of_run in uses.items()}
        self.minute = 0
        """Minute of usage whose account has no minute of its own."""
        self.changed = False
        """Whether an account was opened or closed or its base changed; reset by the reader."""
        self._of_runs: dict[AttributionTarget, list[Account]] = {}
        self._usage: dict[UsageKey, Amount] = {}

    def at(self, line: AccountKey) -> Account:
        """Return the account of a key; open it at zero if there is none."""
        return self.accounts.get(line) or self.open(line, ZERO_BALANCE)

    def of(self, key: RunKey) -> list[Account]:
        """Return the accounts of a run."""
        return self._of_runs.get(key, [])

    def factor_uses_of(self, key: RunKey) -> FactorUses:
        """Return the factor uses of a run, which the caller may change."""
        return self.uses.setdefault(key, FactorUses())

    def open(self, line: AccountKey, balance: Balance) -> Account:
        """Open an account."""
        target, uses = line.target, None
        if isinstance(target, RunKey) and target != DEPARTED_RUNS:
            uses = self.factor_uses_of(target)
        account = self.accounts[line] = Account(line, balance, uses)
        if uses is not None:
            self._of_runs.setdefault(target, []).append(account)
        self.window(line.device).accounts.add(account)
        self.changed = True
        return account

    def close(self, key: RunKey) -> list[Account]:
        """Remove the accounts of a run and return them."""
        closed = self._of_runs.pop(key, [])
        for account in closed:
            del self.accounts[account.line]
            self.windows[account.line.device].accounts.remove(account)
        self.uses.pop(key, None)
        self.changed = True
        return closed

    def window(self, device: Device) -> PowerWindow:
        """Return the device's power window."""
        window = self.windows.get(device)
        if window is None:
            window = self.windows[device] = PowerWindow()
        return window

    def flush_usage(self, account: Account) -> None:
        """Move the account's unflushed amount into the usage of its minute and factor."""
        used = account.balance.total.minus(account.flushed_total)
        if any(used):
            line = account.line
            minute = account.minute or self.minute
            key = UsageKey(
                minute, line.device, line.target, account.factor, line.method, line.split
            )
            self._usage[key] = self._usage.get(key, ZERO_AMOUNT).plus(used)
            account.flushed_total = account.balance.total

    def pop_usage(self, waiting: AbstractSet[RunKey]) -> dict[UsageKey, Amount]:
        """Remove and return the usage flushed since the last call, except of `waiting` runs."""
        popped = {key: used for key, used in self._usage.items() if key.target not in waiting}
        for key in popped:
            del self._usage[key]
        return popped

    def exclude_from_counter(self, account: Account, before: Amount) -> None:
        """Exclude the amount added since the total was `before` from the published counter."""
        total, base = account.balance
        added = total.minus(before)
        if any(added):
            account.balance = Balance(total, base.plus(added))
            account.row = None
            self.changed = True

    def move_usage(self, old: RunKey, new: RunKey) -> None:
        """Move the unsent usage of run `old` to run `new`."""
        for account in self.of(old):
            self.flush_usage(account)
        for key in [key for key in self._usage if key.target == old]:
            target = key._replace(target=new)
            self._usage[target] = self._usage.get(target, ZERO_AMOUNT).plus(self._usage.pop(key))

    def move(self, account: Account, balance: Balance) -> None:
        """Add a balance whose usage is recorded elsewhere."""
        self.flush_usage(account)
        account.balance = account.balance.plus(balance)
        account.flushed_total = account.balance.total
        account.row = None
        self.changed = True
