"""CPU time of process trees, counted once though the kernel shows it twice: pure.

When a process that has ended is waited for, the kernel first adds all its time to its parent's
clock of ended children, and then lets it vanish. So at a look in which every process that is still
there was read after all that are gone had vanished, what the gone ones were charged while they
lived is inside the clocks of those that waited for them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from exporter.model.runs import RunKey


@dataclass(slots=True, eq=False, kw_only=True)
class CpuTime:
    """The clocks of one process, in clock ticks, and what of them is not counted yet."""

    own_ticks: int = 0
    """Its own threads, since its birth."""
    ended_ticks: int = 0
    """Its children that ended and were waited for, and theirs."""
    run: RunKey | None = None
    """Who is charged; None: nobody."""
    gone: bool = False
    """It has vanished, and is kept until its time is settled with its parent."""
    new_own: int = 0
    new_ended: int = 0
    owed: int = 0
    """Time of gone descendants that was counted while they lived; not to be counted again."""

    def advance(self, own_ticks: int, ended_ticks: int) -> None:
        """Take a new reading of both clocks; one that is lower than the last is left out."""
        if own_ticks > self.own_ticks:
            self.new_own += own_ticks - self.own_ticks
            self.own_ticks = own_ticks
        if ended_ticks > self.ended_ticks:
            self.new_ended += ended_ticks - self.ended_ticks
            self.ended_ticks = ended_ticks

    def skip(self) -> None:
        """Leave out all that was not counted yet."""
        self.new_own = self.new_ended = self.owed = 0


Process = TypeVar("Process", bound=CpuTime)


def settle(
    oldest_first: Sequence[Process], parent_of: Callable[[Process], Process | None]
) -> dict[RunKey, int]:
    """Ticks that each run used since the last time, of all processes that are charged to a run.

    What is owed is paid from the parent's clock of ended children. What that does not cover was
    waited for by one further up, as orphans are, and is paid there; what nobody covers was waited
    for by no process of a run, and is void.
    """
    used: dict[RunKey, int] = {}
    for process in reversed(oldest_first):
        if not (process.new_own or process.new_ended or process.owed or process.gone):
            continue
        paid = min(process.owed, process.new_ended)
        fresh = process.new_own + process.new_ended - paid
        debt = process.owed - paid
        if process.gone:
            debt += process.own_ticks + process.ended_ticks
        process.skip()
        if fresh:
            assert process.run is not None
            used[process.run] = used.get(process.run, 0) + fresh
        if debt:
            parent = parent_of(process)
            if parent is not None and parent.run is not None:
                parent.owed += debt
    return used
