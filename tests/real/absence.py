"""A minute of a daemon over GPUs whose counters go on, with a kill and an absence in its middle."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.real.parts import Daemon, until

SECONDS = 60.0
ABSENCE_SECONDS = 5.0
TOLERANCE = 0.001
LOOKS = 11
HELD_UP_SECONDS = 0.5
"""At most, between a reading and its time."""
Snapshot = dict[str, Any]


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def device(snapshot: Snapshot, name: str) -> dict[str, Any]:
    (found,) = [row for row in snapshot["devices"] if row["id"] == name]
    return found


def counted_uj(snapshot: Snapshot, name: str) -> int:
    return int(device(snapshot, name)["counted"]["energy_uj"])


def read_at(snapshot: Snapshot, name: str) -> float:
    return float(snapshot["at_ns"] / 1e9 - device(snapshot, name)["age_seconds"])


def watch(daemon: Daemon, seconds: float) -> list[Snapshot]:
    """What it shows for some time."""
    seen = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen.append(daemon.json("/api/v1/snapshot"))
        time.sleep(0.5)
    return seen


class Story(NamedTuple):
    """What was seen of it."""

    used: Callable[[str, float, float], float]
    """What a GPU truly used between two times of CLOCK_BOOTTIME, in joules."""
    seen: list[Snapshot]
    away: tuple[float, float]
    """When the daemon was killed, and when it was begun again."""

    def relative_error(self, name: str) -> float:
        """Of the energy that was counted."""
        # The middle of some looks: one may have been held up between a reading and its time.
        begin, end = (
            statistics.median(self._ahead(name, snapshot) for snapshot in looks)
            for looks in (self.seen[:LOOKS], self.seen[-LOOKS:])
        )
        first, last = (read_at(self.seen[at], name) for at in (0, -1))
        assert last - first > SECONDS - ABSENCE_SECONDS
        return (end - begin) / self.used(name, first, last)

    def _ahead(self, name: str, snapshot: Snapshot) -> float:
        """How many joules more than the truth were counted since the first look."""
        first = self.seen[0]
        counted = counted_uj(snapshot, name) - counted_uj(first, name)
        return counted / 1e6 - self.used(name, read_at(first, name), read_at(snapshot, name))

    def totals_uj(self, name: str) -> list[int]:
        return [counted_uj(snapshot, name) for snapshot in self.seen]

    def sums_of_parts_uj(self, name: str) -> list[int]:
        amounts = [device(snapshot, name)["counted"] for snapshot in self.seen]
        return [each["attributed_uj"] + sum(each["unattributed_uj"].values()) for each in amounts]

    def has_restart_energy(self, name: str) -> bool:
        """Whether what was used in the absence was attributed to the restart."""
        amounts = device(self.seen[-1], name)["counted"]["unattributed_uj"]
        killed, begun = self.away
        last = max(at for each in self.seen if (at := read_at(each, name)) < killed)
        first = min(at for each in self.seen if (at := read_at(each, name)) > begun)
        return (
            self.used(name, killed, begun)
            < amounts["restart"] / 1e6
            < self.used(name, last - HELD_UP_SECONDS, first)
        )


def play(
    daemon: Daemon,
    names: Sequence[str],
    used: Callable[[str, float, float], float],
    absent: Callable[[], None] = lambda: time.sleep(ABSENCE_SECONDS),
) -> Story:
    """Watch a daemon that runs for a minute, with a kill and an absence in its middle."""

    def is_counted(since: dict[str, int]) -> bool:
        seen = daemon.json("/api/v1/snapshot")
        return all(counted_uj(seen, name) > since[name] for name in names)

    until(lambda: is_counted(dict.fromkeys(names, 0)), what="energy is counted")
    seen = watch(daemon, (SECONDS - ABSENCE_SECONDS) / 2)
    daemon.kill()
    killed = boottime()
    absent()
    begun = boottime()
    daemon.start()
    before = {name: counted_uj(seen[-1], name) for name in names}
    until(lambda: is_counted(before), what="it goes on")
    return Story(used, seen + watch(daemon, (SECONDS - ABSENCE_SECONDS) / 2), (killed, begun))


class KnownTruth:
    """Tests of a module with the fixtures `story` and `name`, the id of a GPU in it."""

    def test_energy_is_the_truth_within_a_thousandth_over_a_kill(
        self, story: Story, name: str
    ) -> None:
        assert abs(story.relative_error(name)) < TOLERANCE

    def test_no_total_ever_steps_back(self, story: Story, name: str) -> None:
        assert story.totals_uj(name) == sorted(story.totals_uj(name))

    def test_a_gpu_is_its_parts_exactly_at_every_moment(self, story: Story, name: str) -> None:
        assert story.sums_of_parts_uj(name) == story.totals_uj(name)
