"""What the books keep of each line, run and device: mutable, and owned by the books alone."""

from collections.abc import Iterable

from exporter import units
from exporter.model.books import Amount, Balance, FactorUse, Line
from exporter.model.intensity import Factor
from exporter.model.snapshot import Row


class FactorUses:
    """How much of one run's energy was converted with which factor."""

    def __init__(self, uses: Iterable[FactorUse] = ()) -> None:
        self._uses: dict[Factor | None, FactorUse] = {}
        self._factor: Factor | None = None
        self._energy_uj = 0
        self._carbon_ng = 0
        for use in uses:
            self.add(*use)

    def add(self, factor: Factor | None, energy_uj: int, carbon_ng: int) -> None:
        """Count an amount (< 0: take it away).

        Cheap as long as the factor is the same object as before.
        """
        if factor is not self._factor:
            self._close()
            self._factor = factor
        self._energy_uj += energy_uj
        self._carbon_ng += carbon_ng

    def shown(self) -> tuple[FactorUse, ...]:
        """The sums, in the order of first use."""
        self._close()
        return tuple(self._uses.values())

    def _close(self) -> None:
        """Put what has gathered under the present factor with the rest."""
        if not self._energy_uj and not self._carbon_ng:
            return
        known = self._uses.get(self._factor, FactorUse(self._factor, 0, 0))
        use = self._uses[self._factor] = FactorUse(
            self._factor, known.energy_uj + self._energy_uj, known.carbon_ng + self._carbon_ng
        )
        if not use.energy_uj and not use.carbon_ng:
            del self._uses[self._factor]
        self._energy_uj = self._carbon_ng = 0


class Account:
    """One line: what stands on it, what of that is news to the ledger, and its power."""

    __slots__ = (
        "balance",
        "factor",
        "line",
        "minute",
        "power_watts",
        "row",
        "sent",
        "uses",
        "window_uj",
        "written_up",
    )

    def __init__(self, line: Line, balance: Balance, uses: FactorUses | None) -> None:
        self.line = line
        self.balance = balance
        self.sent: Balance | None = None
        """The balance in the last batch; the same object as long as nothing changed."""
        self.written_up = balance.total
        """The total when usage was last written up; the rest belongs to `minute` and `factor`."""
        self.minute = 0
        self.factor: Factor | None = None
        self.uses = uses
        self.window_uj = 0
        self.power_watts: float | None = None
        self.row: Row | None = None

    def add(self, energy_uj: int, held_uj: int, carbon_ng: int) -> None:
        """Book an amount."""
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

    def show(self) -> Row:
        """The line as a row of the snapshot, made anew only if something changed."""
        if self.row is None:
            self.row = Row(*self.line, self.balance, self.power_watts)
        return self.row


class Window:
    """The stretch of time over which a device's power is a mean."""

    __slots__ = ("accounts", "duration_ns", "end_ns", "power_watts")

    def __init__(self) -> None:
        self.accounts: set[Account] = set()
        self.duration_ns = 0
        """Of the intervals taken in; less than the time since the first if the machine slept."""
        self.end_ns = 0
        self.power_watts: float | None = None

    def advance(self, t0_ns: int, t1_ns: int, window_ns: int) -> None:
        """Take in an interval whose energy is on the accounts; when full, begin the next."""
        self.end_ns = t1_ns
        self.duration_ns += t1_ns - t0_ns
        duration_ns = self.duration_ns
        if duration_ns < window_ns:
            return
        energy_uj = 0
        for account in self.accounts:
            energy_uj += account.window_uj
            account.power_watts = units.watts(account.window_uj, duration_ns)
            account.window_uj = 0
            account.row = None
        self.power_watts = units.watts(energy_uj, duration_ns)
        self.duration_ns = 0

    def forget(self) -> None:
        """No news for too long: the power is unknown, which is not zero."""
        self.power_watts = None
        for account in self.accounts:
            account.power_watts = None
            account.row = None
