"""Grams that came after their energy, added to the books and to an image of them."""

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet

from exporter.account.image import Image
from exporter.account.lines import ZERO, Lines
from exporter.account.owners import Owners
from exporter.model.books import Amount, Balance, Fill, Late, Line
from exporter.model.runs import DEPARTED, OTHER_OWNER, RunKey


class Filling:
    """Takes in what the ledger filled in, in the ledger's order."""

    def __init__(self, lines: Lines, owners: Owners, last: int) -> None:
        self._lines = lines
        self._owners = owners
        self.last = last
        """The last fill that the books have."""

    def take(self, fill: Fill, here: AbstractSet[RunKey]) -> None:
        """Let totals and counters rise; the ledger's usage has it already.

        `here` are the runs whose own lines have all that the ledger knows of them.
        """
        for late in fill.lates:
            line = line_of(late, here)
            self._lines.move(self._lines.at(line), _grams(late))
            if late.owner is not None:
                # Also where nothing is added: the ledger may not know yet that the run is back.
                self._owners.fill(late.owner, late.carbon_ng if line.party == DEPARTED else 0)
        for key, uses in fill.uses.items():
            for use in uses if key in here else ():
                self._lines.uses_of(key).add(*use)
        self.last = fill.id


def line_of(late: Late, here: Collection[RunKey]) -> Line:
    """Where late grams belong: on their own line, or with those of all runs that left."""
    line = late.line
    has_left = isinstance(line.party, RunKey) and line.party not in here
    return line._replace(party=DEPARTED) if has_left else line


def filled(image: Image, lates: Iterable[Late]) -> Image:
    """The image with those that it lacks. Pure."""
    missing = [late for late in lates if late.fill > image.layout.filled]
    if not missing:
        return image
    layout = image.layout
    here = {run.key for run in layout.runs}.difference(layout.joining)
    lines = image.balances()
    owners = {owner: (energy_uj, carbon_ng) for owner, energy_uj, carbon_ng in layout.owners}
    for late in missing:
        line = line_of(late, here)
        lines[line] = lines.get(line, ZERO).plus(_grams(late))
        owner = late.owner if late.owner in owners else OTHER_OWNER
        if late.owner is not None and owner in owners and line.party == DEPARTED:
            energy_uj, carbon_ng = owners[owner]
            owners[owner] = energy_uj, carbon_ng + late.carbon_ng
    return image._replace(
        layout=layout._replace(
            lines=tuple(lines),
            bases=tuple(balance.base for balance in lines.values()),
            owners=tuple((owner, *sums) for owner, sums in owners.items()),
            filled=missing[-1].fill,
        ),
        totals=tuple(balance.total for balance in lines.values()),
    )


def _grams(late: Late) -> Balance:
    return Balance(Amount(0, 0, late.carbon_ng))
