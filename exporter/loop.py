"""The main loop: schedules ticks and executes commands. The only thread that changes state."""

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
"""Minimum time between two ticks; runs that start and end in quick succession share a tick."""


class Loop:
    """Runs ticks and commands in one thread; other threads read the published snapshots."""

    def __init__(
        self,
        pipeline: Pipeline,
        workload_collector: WorkloadCollector,
        clock: Clock,
        inbox: "queue.SimpleQueue[CommandRequest]",
        interval_seconds: float,
        release_driver: Callable[[], None] = lambda: None,
        exit_when_idle_seconds: float | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        heartbeat_interval_ns: int = 0,
    ) -> None:
        """Create a loop.

        `interval_seconds` is the time between ticks. With `exit_when_idle_seconds` the loop stops
        after this time without an open registered run. `heartbeat` is called before each tick and
        while waiting, at least every `heartbeat_interval_ns` if that is given, but not while a tick
        hangs. `release_driver` executes the command ReleaseDriver.
        """
        self._pipeline = pipeline
        self._workload_collector = workload_collector
        self._clock = clock
        self._inbox = inbox
        self._interval_ns = round(interval_seconds * NANOSECONDS_PER_SECOND)
        self._release_driver = release_driver
        self._idle_ns = exit_when_idle_seconds and exit_when_idle_seconds * NANOSECONDS_PER_SECOND
        self._heartbeat = heartbeat
        self._max_wait_ns = heartbeat_interval_ns or self._interval_ns
        self._busy_at_ns = clock.boottime_ns()
        self._due_ns = 0
        self._suspended_ns = 0
        """Time suspended since boot, as of the scheduling of the next tick."""
        self._ticked_ns = 0
        self._snapshot: Snapshot | None = None
        self._stopping = False

    def run(self, begun: Callable[[], None]) -> None:
        """Run ticks until stopped, then commit. `begun` is called after the first tick."""
        self._due_ns = self._clock.boottime_ns()
        self._suspended_ns = self._due_ns - self._clock.monotonic_ns()
        self.run_tick(self._wait())
        begun()
        while not self._stopping:
            self.run_tick(self._wait())
        self._pipeline.commit(clean=True)

    def run_tick(self, requests: Sequence[CommandRequest]) -> None:
        """Run a tick, then execute the requested commands.

        Runs thus start and end on the boundary of a tick, so that short runs are measured exactly.
        """
        self._ticked_ns = self._clock.boottime_ns()
        self._snapshot = self._pipeline.tick()
        self._execute_requests(requests)
        if self._idle_ns:
            self._stop_when_idle(self._idle_ns, self._snapshot.runs)

    def _stop_when_idle(self, idle_ns: float, runs: Sequence[RunInfo]) -> None:
        # Runs that the exporter found by itself, such as jobs, do not keep the daemon alive.
        if any(run.ended is None and run.origin == REGISTERED for run in runs):
            self._busy_at_ns = self._ticked_ns
        elif self._ticked_ns - self._busy_at_ns >= idle_ns:
            log.info("no registered run for the time of --exit-when-idle; exiting")
            self._stopping = True

    def _wait(self) -> list[CommandRequest]:
        """Wait for requests; return none when the next tick is due.

        Requests are returned as soon as the minimum time between ticks has passed.
        """
        requests: list[CommandRequest] = []
        while True:
            self._heartbeat()
            now_ns = self._clock.boottime_ns()
            until_ns = self._ticked_ns + MIN_TICK_SPACING_NS if requests else self._due_ns
            if now_ns >= until_ns:
                break
            left_ns = until_ns - now_ns
            wait_ns = min(left_ns, self._max_wait_ns)
            try:
                request = self._inbox.get(timeout=wait_ns / NANOSECONDS_PER_SECOND)
            except queue.Empty:
                if wait_ns == left_ns:
                    break
                continue
            if isinstance(request.command, LogRun):
                self._execute_now(request)
            elif isinstance(request.command, ImportRuns):
                self._pipeline.import_runs(request.command, request.answer)
            else:
                requests.append(request)
        if not requests:
            self._schedule()
        return requests

    def _schedule(self) -> None:
        """Set the due time of the next tick; missed ticks are counted, not repeated.

        Ticks that were missed because the machine was suspended are not counted.
        """
        now_ns = self._clock.boottime_ns()
        late_ns = now_ns - self._due_ns
        suspended_ns = now_ns - self._clock.monotonic_ns()
        awake_ns = late_ns - (suspended_ns - self._suspended_ns)
        if awake_ns >= self._interval_ns:
            self._pipeline.count_missed_ticks(awake_ns // self._interval_ns)
        self._due_ns += (max(0, late_ns // self._interval_ns) + 1) * self._interval_ns
        self._suspended_ns = suspended_ns

    def _execute_requests(self, requests: Sequence[CommandRequest]) -> None:
        """Execute commands, publish a snapshot and answer from it."""
        answers = [(request, self._execute(request.command)) for request in requests]
        if not any(answer is not None for _, answer in answers):
            return
        snapshot = self._snapshot = self._pipeline.publish_snapshot()
        if any(isinstance(request.command, EndRun) for request, _ in answers):
            self._pipeline.commit()
        for request, answer in answers:
            done = record_of(snapshot, answer) if isinstance(answer, RunInfo) else answer
            request.answer(done)

    def _execute_now(self, request: CommandRequest) -> None:
        """Execute a command that does not change energies and therefore requires no tick."""
        done: object = self._execute(request.command)
        if isinstance(done, RunInfo) and self._snapshot is not None:
            done = record_of(self._snapshot, done)
        request.answer(done)

    def _execute(self, command: Command) -> RunInfo | RequestRefused | None:
        """Execute one command; return the run, or the error to answer with. Never raises."""
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
                    self._release_driver()
        except RequestRefused as refusal:
            return refusal
        except Exception:
            log.exception("command failed", extra={"command": type(command).__name__})
            return RequestRefused(500, "internal error; see the log of the daemon for the reason")
        return None
