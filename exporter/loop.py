"""The loop: when to tick, and what was asked for in between. Everything is written from here."""

import logging
import queue
from collections.abc import Callable, Sequence

from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.model.commands import (
    Command,
    CommandRequest,
    EndRun,
    ImportRuns,
    LogRun,
    ReleaseDriver,
    StartRun,
    StopDaemon,
)
from exporter.model.runs import REGISTERED, RunInfo
from exporter.model.snapshot import Snapshot, record_of
from exporter.pipeline import Pipeline, WorkloadCollector
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)

MIN_TICK_SPACING_NS = 100_000_000
"""Least time between two ticks: runs that begin and end in quick succession share one."""


class Loop:
    """One thread, one inbox, one tick at a time; everybody else reads what was published."""

    def __init__(
        self,
        pipeline: Pipeline,
        workload_collector: WorkloadCollector,
        clock: Clock,
        inbox: "queue.SimpleQueue[CommandRequest]",
        interval_seconds: float,
        let_go: Callable[[], None] = lambda: None,
        exit_when_idle_seconds: float | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        heartbeat_interval_ns: int = 0,
    ) -> None:
        """With `exit_when_idle_seconds` it stops by itself after so long without a running run.

        `beat` is called before each tick and while waiting, with `beat_ns` at least that often; not
        while a tick hangs.
        """
        self._pipeline = pipeline
        self._workload_collector = workload_collector
        self._clock = clock
        self._inbox = inbox
        self._interval_ns = round(interval_seconds * NANOSECONDS_PER_SECOND)
        self._let_go = let_go
        self._idle_ns = exit_when_idle_seconds and exit_when_idle_seconds * NANOSECONDS_PER_SECOND
        self._beat = heartbeat
        self._nap_ns = heartbeat_interval_ns or self._interval_ns
        self._busy_at_ns = clock.boottime_ns()
        self._due_ns = 0
        self._suspended_ns = 0
        """How long the machine had slept since boot when the next tick was set."""
        self._ticked_ns = 0
        self._snapshot: Snapshot | None = None
        self._stopping = False

    def run(self, begun: Callable[[], None]) -> None:
        """Tick until told to stop; then make everything durable.

        `begun` is called after the first tick.
        """
        self._due_ns = self._clock.boottime_ns()
        self._suspended_ns = self._due_ns - self._clock.monotonic_ns()
        self.run_tick(self._wait())
        begun()
        while not self._stopping:
            self.run_tick(self._wait())
        self._pipeline.commit(clean=True)

    def run_tick(self, requests: Sequence[CommandRequest]) -> None:
        """A tick, because it is due or something is asked for, and then what is asked for.

        So a run begins and ends on the boundary of a tick, and short runs are exact.
        """
        self._ticked_ns = self._clock.boottime_ns()
        self._snapshot = self._pipeline.tick()
        self._obey(requests)
        if self._idle_ns:
            self._stop_when_idle(self._idle_ns, self._snapshot.runs)

    def _stop_when_idle(self, idle_ns: float, runs: Sequence[RunInfo]) -> None:
        # Jobs and the like are there without anybody who asked.
        if any(run.ended is None and run.origin == REGISTERED for run in runs):
            self._busy_at_ns = self._ticked_ns
        elif self._ticked_ns - self._busy_at_ns >= idle_ns:
            log.info("no run is running any more; stopping, as --exit-when-idle says")
            self._stopping = True

    def _wait(self) -> list[CommandRequest]:
        """Requests, as soon as there are some and a tick is allowed; none when the tick is due."""
        requests: list[CommandRequest] = []
        while True:
            self._beat()
            now_ns = self._clock.boottime_ns()
            until_ns = self._ticked_ns + MIN_TICK_SPACING_NS if requests else self._due_ns
            if now_ns >= until_ns:
                break
            left_ns = until_ns - now_ns
            nap_ns = min(left_ns, self._nap_ns)
            try:
                request = self._inbox.get(timeout=nap_ns / NANOSECONDS_PER_SECOND)
            except queue.Empty:
                if nap_ns == left_ns:
                    break
                continue
            if isinstance(request.command, LogRun):
                self._obey_at_once(request)
            elif isinstance(request.command, ImportRuns):
                self._pipeline.import_runs(request.command, request.answer)
            else:
                requests.append(request)
        if not requests:
            self._schedule()
        return requests

    def _schedule(self) -> None:
        """Set the next due time; ticks that were missed are counted, not made up for.

        Those that a sleeping machine could not make are not counted.
        """
        now_ns = self._clock.boottime_ns()
        late_ns = now_ns - self._due_ns
        suspended_ns = now_ns - self._clock.monotonic_ns()
        awake_ns = late_ns - (suspended_ns - self._suspended_ns)
        if awake_ns >= self._interval_ns:
            self._pipeline.count_missed_ticks(awake_ns // self._interval_ns)
        self._due_ns += (max(0, late_ns // self._interval_ns) + 1) * self._interval_ns
        self._suspended_ns = suspended_ns

    def _obey(self, requests: Sequence[CommandRequest]) -> None:
        """Carry out what was asked for, and answer with what is then on the page."""
        answers = [(request, self._carry_out(request.command)) for request in requests]
        if not any(answer is not None for _, answer in answers):
            return
        snapshot = self._snapshot = self._pipeline.publish_snapshot()
        if any(isinstance(request.command, EndRun) for request, _ in answers):
            self._pipeline.commit()
        for request, answer in answers:
            done = record_of(snapshot, answer) if isinstance(answer, RunInfo) else answer
            request.answer(done)

    def _obey_at_once(self, request: CommandRequest) -> None:
        """Carry out what changes nobody's energy: no tick is made for it."""
        done: object = self._carry_out(request.command)
        if isinstance(done, RunInfo) and self._snapshot is not None:
            done = record_of(self._snapshot, done)
        request.answer(done)

    def _carry_out(self, command: Command) -> RunInfo | RequestRefused | None:
        """Do it. What a caller asks for may fail, but never stop the loop."""
        try:
            match command:
                case StartRun():
                    return self._workload_collector.start(command)
                case LogRun():
                    return self._workload_collector.log(command, self._pipeline.progress_mark)
                case EndRun():
                    return self._workload_collector.end(command)
                case StopDaemon():
                    self._stopping = True
                case ReleaseDriver():
                    self._let_go()
        except RequestRefused as refusal:
            return refusal
        except Exception:
            log.exception("a request failed")
            return RequestRefused(500, "the daemon failed at this request; its log says why")
        return None
