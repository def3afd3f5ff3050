"""Every line of the books with its account, found by line, by run and by device."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from exporter.account.accounts import Account, FactorUses, Window
from exporter.model.books import NOTHING, Amount, Balance, FactorUse, Line, UsageKey
from exporter.model.readings import Device
from exporter.model.runs import DEPARTED, RunKey
from exporter.model.workload import Party

ZERO = Balance(NOTHING)


class Lines:
    """The accounts, and what was used of them that no batch has yet; owned by the books alone."""

    def __init__(self, uses: Mapping[RunKey, tuple[FactorUse, ...]]) -> None:
        self.accounts: dict[Line, Account] = {}
        """To be read alone, as are the two below."""
        self.windows: dict[Device, Window] = {}
        self.uses = {key: FactorUses(of_run) for key, of_run in uses.items()}
        self.minute = 0
        """Where energy is written up that came without a minute."""
        self.changed = False
        """Whether a line came or went, or its base moved; set back by who looks."""
        self._of_runs: dict[Party, list[Account]] = {}
        self._usage: dict[UsageKey, Amount] = {}

    def at(self, line: Line) -> Account:
        """The line's account; one at zero if there is none yet."""
        return self.accounts.get(line) or self.open(line, ZERO)

    def of(self, key: RunKey) -> list[Account]:
        """The accounts of a run."""
        return self._of_runs.get(key, [])

    def uses_of(self, key: RunKey) -> FactorUses:
        """The factors of a run."""
        return self.uses.setdefault(key, FactorUses())

    def open(self, line: Line, balance: Balance) -> Account:
        """Begin a line."""
        party, uses = line.party, None
        if isinstance(party, RunKey) and party != DEPARTED:
            uses = self.uses_of(party)
        account = self.accounts[line] = Account(line, balance, uses)
        if uses is not None:
            self._of_runs.setdefault(party, []).append(account)
        self.window(line.device).accounts.add(account)
        self.changed = True
        return account

    def close(self, key: RunKey) -> list[Account]:
        """End the lines of a run; the accounts are the caller's."""
        closed = self._of_runs.pop(key, [])
        for account in closed:
            del self.accounts[account.line]
            self.windows[account.line.device].accounts.remove(account)
        self.uses.pop(key, None)
        self.changed = True
        return closed

    def window(self, device: Device) -> Window:
        """The device's window of power."""
        window = self.windows.get(device)
        if window is None:
            window = self.windows[device] = Window()
        return window

    def write_up(self, account: Account) -> None:
        """Put what the account gathered under its minute and factor into the usage."""
        used = account.balance.total.minus(account.written_up)
        if any(used):
            line = account.line
            minute = account.minute or self.minute
            key = UsageKey(minute, line.device, line.party, account.factor, line.method, line.split)
            self._usage[key] = self._usage.get(key, NOTHING).plus(used)
            account.written_up = account.balance.total

    def take_usage(self, waiting: AbstractSet[RunKey]) -> dict[UsageKey, Amount]:
        """What was written up since the last call, but for what is `waiting`."""
        taken = {key: used for key, used in self._usage.items() if key.party not in waiting}
        for key in taken:
            del self._usage[key]
        return taken

    def uncount(self, account: Account, before: Amount) -> None:
        """Leave what was added to the total since `before` out of what the counter shows."""
        total, base = account.balance
        added = total.minus(before)
        if any(added):
            account.balance = Balance(total, base.plus(added))
            account.row = None
            self.changed = True

    def relabel(self, old: RunKey, new: RunKey) -> None:
        """Write up what a run used, as used by another."""
        for account in self.of(old):
            self.write_up(account)
        for key in [key for key in self._usage if key.party == old]:
            target = key._replace(party=new)
            self._usage[target] = self._usage.get(target, NOTHING).plus(self._usage.pop(key))

    def move(self, account: Account, balance: Balance) -> None:
        """Add what was used and written up elsewhere."""
        self.write_up(account)
        account.balance = account.balance.plus(balance)
        account.written_up = account.balance.total
        account.row = None
        self.changed = True
