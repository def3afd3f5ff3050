"""The memory that the processes of each run hold, read a part at a time."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from exporter.attribute.sources.procfs import Process
from exporter.model.runs import RunKey

MEMORY_LOOKS = 10
"""In how many looks the memory of everything in a run is read once, at most."""
NEW_MEMORIES = 50
"""How many processes are read in one look because they are new."""


class Memories:
    """Anonymous memory of each run's processes, and the largest of their shared memories.

    Processes of one run mostly share the same pages, so those are not added up.
    """

    def __init__(self, read: Callable[[Process], None]) -> None:
        self._read = read
        self._look = 0
        self._owned: Sequence[Process] = ()
        self._sums: dict[RunKey, int] = {}

    def look(self, owned: Sequence[Process]) -> dict[RunKey, int]:
        """Bytes of each run. `owned` is another sequence whenever it holds other processes.

        Only processes whose clocks line told of another resident size since they were read are
        read again, a part in each call, those first that were read longest ago.
        """
        self._look += 1
        grown = [process for process in owned if process.resident != process.memory_resident]
        for process in self._due(grown, len(owned)):
            process.memory_look = self._look
            process.memory_resident = process.resident
            self._read(process)
        if grown or owned is not self._owned:
            self._owned, self._sums = owned, _sums(owned)
        return dict(self._sums)

    def _due(self, grown: list[Process], owned: int) -> Sequence[Process]:
        grown.sort(key=attrgetter("memory_look"))
        unread = sum(not process.memory_look for process in grown)
        return grown[: max(-(-owned // MEMORY_LOOKS), min(unread, NEW_MEMORIES))]


def _sums(owned: Sequence[Process]) -> dict[RunKey, int]:
    anonymous: dict[RunKey, int] = {}
    shared: dict[RunKey, int] = {}
    for process in owned:
        run = process.run
        assert run is not None
        anonymous[run] = anonymous.get(run, 0) + process.anonymous_bytes
        shared[run] = max(shared.get(run, 0), process.shared_bytes)
    return {run: size + shared[run] for run, size in anonymous.items()}
