"""The measured figures beside what is promised."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.bench.cost import Step
from tests.bench.gpus import GpuStep
from tests.bench.grid import Hanging
from tests.bench.machine import Usage
from tests.bench.pages import Rendered, Scraped, Starts
from tests.bench.peers import Turn
from tests.bench.pods import PodStep
from tests.bench.scene import MANY_RUNS
from tests.bench.tracker import Tracked

SECONDS_PER_DAY = 86_400


class Gate(NamedTuple):
    """One promise and what came of it."""

    what: str
    unit: str
    measured: Sequence[float]
    floor: Sequence[float]
    """Measured by turns with `measured`; empty if `limit` is absolute."""
    limit: float
    """Of the ratio to the floor, or in `unit`."""
    aim: float | None
    """In `unit`; None if the ratio itself is the aim."""
    usage: Usage | None = None
    """Use of the machine by others; None for what does not depend on it."""

    @property
    def ratio(self) -> float:
        """The median of the ratios of each turn."""
        turns = zip(self.measured, self.floor, strict=True)
        return statistics.median(own / floor for own, floor in turns)

    @property
    def is_missed(self) -> bool:
        return (self.ratio if self.floor else statistics.median(self.measured)) > self.limit

    @property
    def is_doubtful(self) -> bool:
        return self.usage is not None and self.usage.is_noisy

    @property
    def verdict(self) -> str:
        if self.is_doubtful:
            return f"doubtful, {'missed' if self.is_missed else 'met'}"
        if self.is_missed:
            return "MISSED"
        is_aim_met = self.aim is not None and statistics.median(self.measured) <= self.aim
        return "aim met" if is_aim_met else "met"


class Results(NamedTuple):
    """All that was measured."""

    usages: Mapping[str, Usage]
    """Use of the machine by others during each part of the measurements."""
    curve: Sequence[Step]
    reference: Step
    many: Sequence[Step]
    """With `MANY_RUNS` runs."""
    changed: float
    written: int
    written_seconds: float
    starts: Starts
    scraped: Scraped
    ready_page: Scraped
    """The floor of scrapes."""
    rendered: Rendered
    gpus: Sequence[GpuStep]
    pods: Sequence[PodStep]
    jobs: Mapping[int, Sequence[Step]]
    """By the number of jobs; empty where cgroups cannot be made, like `pods`."""
    hanging: Hanging
    tracked: Tracked
    turns: Mapping[str, Sequence[Turn]]
    """Of each other program that was there, and of the exporter itself."""

    @property
    def gates(self) -> list[Gate]:
        """What design and documentation promise."""
        usages, ticks = self.usages, self.reference.ticks
        starts, tracked, hanging = self.starts, self.tracked, self.hanging
        gb_per_day = self.written / self.written_seconds * SECONDS_PER_DAY / 1e9
        pairs = zip(tracked.imports, tracked.plain, strict=True)
        added_ms = [imported - plain for imported, plain in pairs]
        added_mb = hanging.rss_mb - hanging.rss_mb_without
        scrapes = self.scraped.cpu, self.ready_page.cpu
        renders = self.rendered.per_sample, self.rendered.per_repr
        loops = tracked.tracked, tracked.alone
        hanging_ticks = hanging.ticks, hanging.ticks_without
        hanging_scrapes = hanging.scrapes, hanging.scrapes_without
        start_times = starts.exporter, starts.python
        name = f"growth per process, {MANY_RUNS} runs"
        return [
            Gate("tick", "ms", ticks, self.reference.floor, 2.2, 4, usages["reference"]),
            Gate("growth per process", "us", *growth(self.curve), 2.6, 8, usages["curve"]),
            Gate(name, "us", *growth(self.many), 2.6, 8, usages["many"]),
            *self._job_gates(),
            *self._pod_gates(),
            Gate("scrape", "ms", *scrapes, 5, 0.3, usages["scrape"]),
            Gate("render, per sample", "us", *renders, 3.5, 1, usages["render"]),
            Gate("exec to first page", "ms wall", *start_times, 18, 150, usages["starts"]),
            Gate(
                "import of the client", "ms wall", added_ms, tracked.plain, 2.5, 20, usages["track"]
            ),
            Gate("loop with `track`", "ms wall", *loops, 1.02, None, usages["track"]),
            Gate("tick while sources hang", "ms", *hanging_ticks, 1.05, None, usages["grid"]),
            Gate(
                "scrape while sources hang", "ms wall", *hanging_scrapes, 1.1, None, usages["grid"]
            ),
            Gate("RSS that live sources add", "MB", [added_mb], [], 1, 0.5),
            Gate("RSS", "MB", [self.reference.rss_mb], [], 40, 32),
            Gate("disk writes", "GB/day", [gb_per_day], [], 0.3, 0.15),
        ]

    def _job_gates(self) -> list[Gate]:
        if not self.jobs:
            return []
        usage = self.usages["jobs"]
        (few, many), (most,) = self.jobs.values()
        count, most_count = self.jobs
        added, floor = growth((few, many))
        return [
            Gate(f"{count} jobs, all threads, per s", "ms", *whole(many), 4, 7, usage),
            Gate("growth per process of a job", "us", added, floor, 1, 3, usage),
            Gate(f"{most_count} jobs, all threads, per s", "ms", *whole(most), 12, 60, usage),
        ]

    def _pod_gates(self) -> list[Gate]:
        usage = self.usages["pods"]
        gates = []
        for step, *_ in self.pods:
            if step.size == 110:
                gates.append(Gate("RSS, 110 pods", "MB", [step.rss_mb], [], 45, 40))
            if step.size == 500:
                gates.append(Gate("tick, 500 pods", "ms", step.ticks, step.floor, 10, 8, usage))
        return gates


def growth(steps: Sequence[Step]) -> tuple[list[float], list[float]]:
    """What each process adds to a tick and to the floor, in us, from the first to the last step."""
    first, last = steps[0], steps[-1]
    us = 1000 / (last.size - first.size)
    return (
        [(last.median - first.median) * us],
        [(last.floor_median - first.floor_median) * us],
    )


def whole(step: Step) -> tuple[list[float], list[float]]:
    """CPU time per second of all threads, and of the floor, in ms."""
    return [step.whole_ms], [step.floor_median]
