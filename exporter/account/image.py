"""The books at one tick, as the journal keeps them."""

from typing import NamedTuple

from exporter.model.books import Amount, Balance, Line, MachineCpu, RunCpu
from exporter.model.intensity import Factor
from exporter.model.readings import Position
from exporter.model.runs import Owner, RunInfo, RunKey


class Origin(NamedTuple):
    """Where a journal belongs: totals may be continued from it only on the same boot."""

    ledger_id: str
    boot_id: str


NOWHERE = Origin("", "")


NO_BATCH = -1


class Merged(NamedTuple):
    """A run that became another one."""

    old: RunKey
    new: RunKey
    seq: int = NO_BATCH
    """The batch that has it."""


class Layout(NamedTuple):
    """What rarely changes from one image to the next; the same object as long as nothing did."""

    lines: tuple[Line, ...]
    bases: tuple[Amount, ...]
    runs: tuple[RunInfo, ...]
    joining: tuple[RunKey, ...]
    """Runs whose past has not been added to their lines yet."""
    owners: tuple[tuple[Owner, int, int], ...] = ()
    """What counters showed of the runs that left the page: microjoules and nanograms by owner."""
    filled: int = 0
    """The last fill that the totals have."""
    merged: "tuple[Merged, ...]" = ()
    """Merges of runs that the ledger may not have yet, in order."""


class Image(NamedTuple):
    """All that a restart on the same boot goes on from."""

    seq: int
    """Counts the images; a batch with the same number says the same."""
    at_ns: int
    wall: float
    layout: Layout
    totals: tuple[Amount, ...]
    """One for each of the layout's lines."""
    positions: tuple[Position, ...]
    run_cpu: tuple[RunCpu, ...]
    machine_cpu: MachineCpu | None
    factor: Factor | None
    """In force at that moment."""
    origin: Origin = NOWHERE
    """Filled in by the journal."""

    def balances(self) -> dict[Line, Balance]:
        """The lines with what stands on them."""
        layout = self.layout
        return dict(zip(layout.lines, map(Balance, self.totals, layout.bases), strict=True))
