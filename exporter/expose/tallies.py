"""Sums over the account balances of a snapshot, by attribution target, in exact integers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from exporter.model.ledger import ZERO_AMOUNT, Amount
from exporter.model.readings import Device, Method
from exporter.model.snapshot import AccountSnapshot
from exporter.model.workload import AttributionTarget, UnattributedReason


class Tally:
    """A sum over account balances.

    `counted_*` are since the counter began (exported by counters), `total_*` since the ledger was
    created, and `held_uj` is the counted idle energy of held devices. `power_watts` is None if none
    of the balances has a power.
    """

    __slots__ = ("counted_ng", "counted_uj", "held_uj", "power_watts", "total_ng", "total_uj")

    def __init__(
        self,
        total: Amount = ZERO_AMOUNT,
        base: Amount = ZERO_AMOUNT,
        power_watts: float | None = None,
    ) -> None:
        """Create the tally of one balance, without arguments that of none."""
        self.total_uj, held_uj, self.total_ng = total
        base_uj, base_held_uj, base_ng = base
        self.counted_uj = self.total_uj - base_uj
        self.held_uj = held_uj - base_held_uj
        self.counted_ng = self.total_ng - base_ng
        self.power_watts = power_watts

    def include(self, other: "Tally") -> None:
        """Add another tally."""
        self.include_amounts(other)
        if other.power_watts is not None:
            self.power_watts = other.power_watts + (self.power_watts or 0.0)

    def without_power(self) -> "Tally":
        """Return a copy without power."""
        copy = Tally()
        copy.include_amounts(self)
        return copy

    def include_amounts(self, other: "Tally") -> None:
        """Add another tally without its power."""
        self.counted_uj += other.counted_uj
        self.held_uj += other.held_uj
        self.counted_ng += other.counted_ng
        self.total_uj += other.total_uj
        self.total_ng += other.total_ng


Tallies: TypeAlias = dict[tuple[str, ...], Tally]
"""Tallies by the label values under which they are exported."""


def sum_tallies(tallies: Iterable[Tally]) -> Tally:
    """Return the sum of all tallies."""
    total = Tally()
    for tally in tallies:
        total.include(tally)
    return total


Parts: TypeAlias = dict[tuple[Device, Method], Tally]


class TargetSums:
    """The rows of one attribution target, and their sums by device and method."""

    __slots__ = ("parts", "rows")

    def __init__(self, rows: Sequence[AccountSnapshot]) -> None:
        self.rows = rows
        self.parts: Parts = {}
        for device, _, method, _, (total, base), power_watts in rows:
            key, tally = (device, method), Tally(total, base, power_watts)
            known = self.parts.get(key)
            self.parts[key] = tally if known is None else sum_tallies((known, tally))


class RowSums:
    """The rows of a snapshot by attribution target, and the sum of those of runs.

    `before` has the rows of the previous tick. Most accounts have not changed since, and then their
    rows are the same objects: only targets with another row are added up again.
    """

    def __init__(self, rows: Sequence[AccountSnapshot], before: "RowSums | None" = None) -> None:
        self.rows = rows
        self.attributed: Parts = {}
        """Sum of all runs, without power."""
        changes = None if before is None else _changes(rows, before.rows)
        if before is None or changes is None:
            self.places = _places(rows)
            """Indices of the rows of each target."""
            self.targets: dict[AttributionTarget, TargetSums] = self._add_up(
                self.places, {} if before is None else before.targets
            )
            for target, sums in self.targets.items():
                if not isinstance(target, UnattributedReason):
                    for key, part in sums.parts.items():
                        self.attributed.setdefault(key, Tally()).include_amounts(part)
            return
        self.places = before.places
        changed = dict.fromkeys(row.target for row, _ in changes)
        self.targets = {**before.targets, **self._add_up(changed, {})}
        for key, part in before.attributed.items():
            self.attributed[key] = part.without_power()
        for key, change in _attributed_changes(changes).items():
            self.attributed[key].include_amounts(Tally(change))

    def _add_up(
        self,
        targets: Iterable[AttributionTarget],
        before: Mapping[AttributionTarget, TargetSums],
    ) -> dict[AttributionTarget, TargetSums]:
        """Return the sums of targets; those in `before` of the same rows are used again."""
        sums = {}
        for target in targets:
            rows = [self.rows[place] for place in self.places[target]]
            known = before.get(target)
            sums[target] = known if known is not None and known.rows == rows else TargetSums(rows)
        return sums


def _places(rows: Iterable[AccountSnapshot]) -> dict[AttributionTarget, list[int]]:
    places: dict[AttributionTarget, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.target, []).append(place)
    return places


_Changes: TypeAlias = list[tuple[AccountSnapshot, AccountSnapshot]]
"""Rows and those of the same accounts in the previous tick."""


def _changes(rows: Sequence[AccountSnapshot], before: Sequence[AccountSnapshot]) -> _Changes | None:
    """Return the rows that have changed; None if the rows are of other accounts, or a base changed.

    All fields of a row but its balance and power are the key of the account.
    """
    if len(rows) != len(before):
        return None
    changes = [(row, old) for row, old in zip(rows, before, strict=True) if row is not old]
    if any(row[:4] != old[:4] or row.balance.base != old.balance.base for row, old in changes):
        return None
    return changes


def _attributed_changes(changes: _Changes) -> dict[tuple[Device, Method], Amount]:
    """Return the sum of the changes of accounts of runs."""
    sums: dict[tuple[Device, Method], list[int]] = {}
    for (device, target, method, _, (total, _), _), old in changes:
        if isinstance(target, UnattributedReason):
            continue
        energy_uj, held_uj, carbon_ng = old.balance.total
        change = sums.setdefault((device, method), [0, 0, 0])
        change[0] += total[0] - energy_uj
        change[1] += total[1] - held_uj
        change[2] += total[2] - carbon_ng
    return {key: Amount(*change) for key, change in sums.items()}
