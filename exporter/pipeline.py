"""The pipeline of one tick: sample, attribute, convert, account, expose."""

import logging
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from exporter.account.backfill import factors_for_minutes
from exporter.account.books import Books
from exporter.account.journal import Journal
from exporter.account.ledger_writer import LedgerWriter
from exporter.attribute.attribution import Attribution
from exporter.attribute.run_registry import RunRegistry
from exporter.clock import Clock
from exporter.convert.chain import IntensityChain
from exporter.convert.conversion import convert_shares
from exporter.errors import LedgerError
from exporter.model.commands import EndRun, ImportRuns, LogRun, StartRun
from exporter.model.ledger import Backfill, HostCpuTime, IntervalPostings, RunCpuTime, StoredRun
from exporter.model.readings import (
    CounterState,
    Device,
    DeviceCollector,
    DeviceInfo,
    DriverCallStats,
    GpuActivity,
    Interval,
    Observation,
)
from exporter.model.runs import RUN_LABELS, ProgressMark, RunInfo, RunKey
from exporter.model.snapshot import DaemonHealth, DeviceState, IntensityState, Snapshot
from exporter.model.workload import CollectorState, WorkloadSample
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.node_meter import NodeMeter
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)


class WorkloadCollector(Protocol):
    """Finds the runs and what they use, and executes commands on runs."""

    def collect(
        self, gpu_activity: Mapping[Device, GpuActivity], infos: Iterable[DeviceInfo]
    ) -> WorkloadSample:
        """Return the usage of each run since the last call.

        `gpu_activity` is the last activity of each GPU, `infos` are all known devices.
        """

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Return the pods and containers of each run that has some."""

    def states(self) -> tuple[CollectorState, ...]:
        """Return the states of the last collection."""

    def run_cpu(self) -> tuple[RunCpuTime, ...]:
        """Return the CPU time that the processes of open runs have used so far."""

    def machine_cpu(self) -> HostCpuTime | None:
        """Return the CPU time of the host at the last collection."""

    def start(self, command: StartRun) -> RunInfo:
        """Open a run. Raises RequestRefused."""

    def log(self, command: LogRun, mark_of: Callable[[RunKey, float], ProgressMark]) -> RunInfo:
        """Add values, counts and progress that a run logs. Raises RequestRefused."""

    def end(self, command: EndRun) -> RunInfo:
        """Close a run. Raises RequestRefused."""


class Pipeline:
    """Runs the five stages in order; the only writer of their state."""

    def __init__(
        self,
        *,
        node: str,
        clock: Clock,
        device_collectors: Sequence[DeviceCollector],
        node_meter: NodeMeter | None,
        unopened_states: Sequence[CollectorState],
        notes: tuple[str, ...],
        energy_counters: EnergyCounters,
        workload_collector: WorkloadCollector,
        run_registry: RunRegistry,
        attribution: Attribution,
        chain: IntensityChain,
        intensity_state: Callable[[float], IntensityState],
        other_states: Callable[[], Iterable[CollectorState]],
        intensity_memory: Callable[[], str],
        books: Books,
        journal: Journal,
        writer: LedgerWriter,
        publish: Callable[[Snapshot], None],
        first_seq: int,
        interval_seconds: float,
        retain_ended_seconds: float,
        commit_seconds: float,
    ) -> None:
        self._node = node
        self._clock = clock
        self._device_collectors = device_collectors
        self._node_meter = node_meter
        self._unopened_states = unopened_states
        self._notes = notes
        self._energy_counters = energy_counters
        self._workload_collector = workload_collector
        self._run_registry = run_registry
        self._attribution = attribution
        self._chain = chain
        self._intensity_state = intensity_state
        self._other_states = other_states
        self._intensity_memory = intensity_memory
        self._submitted_memory = ""
        self._books = books
        self._journal = journal
        self._writer = writer
        self._publish = publish
        self._seq = first_seq
        self._interval_seconds = interval_seconds
        self._retain_seconds = retain_ended_seconds
        self._commit_ns = round(commit_seconds * NANOSECONDS_PER_SECOND)
        self._committed_ns = clock.boottime_ns()
        self._collector_states: tuple[CollectorState, ...] = ()
        self._failing = {state.name for state in unopened_states}
        self._last_notes: dict[str, str] = {}
        self._driver_calls: Mapping[str, DriverCallStats] = {}
        self._unrecoverable = ""
        self._tick_seconds = 0.0
        self._journal_errors = 0
        self._journal_error = ""
        # One queue for both, because their order matters: a stored run includes exactly those
        # backfills that were queued before it.
        self._ledger_results: queue.SimpleQueue[StoredRun | Backfill] = queue.SimpleQueue()
        self._missed_ticks = 0
        self._running: set[RunKey] = set()

    def tick(self) -> Snapshot:
        """Run all five stages once and publish the snapshot."""
        began = time.perf_counter()
        now_ns, wall = self._clock.boottime_ns(), self._clock.wall()
        offset_seconds = wall - now_ns / NANOSECONDS_PER_SECOND
        intervals, collector_states = self._read_collectors()
        infos, gpu_activity = self._energy_counters.infos(), self._energy_counters.gpu_activity()
        workload = self._workload_collector.collect(gpu_activity, infos)
        devices = [info.device for info in infos]
        postings = []
        for interval, shares in self._attribution.shares(
            intervals, devices, workload, gpu_activity
        ):
            t0_seconds = interval.t0_ns / NANOSECONDS_PER_SECOND + offset_seconds
            t1_seconds = interval.t1_ns / NANOSECONDS_PER_SECOND + offset_seconds
            intensities = self._chain.intervals(t0_seconds, t1_seconds)
            converted = convert_shares(interval, shares, intensities, offset_seconds)
            postings.append(IntervalPostings(interval, converted))
        self._books.register_devices((*self._energy_counters.counted_infos(), *self._rest_infos()))
        self._update_runs(wall)  # runs that this sample found need accounts for its postings
        self._books.post(postings, now_ns)
        self._set_collector_states(
            (
                *collector_states,
                *self._workload_collector.states(),
                *self._other_states(),
                *self._unopened_states,
            )
        )
        snapshot = self.publish_snapshot()
        if now_ns - self._committed_ns >= self._commit_ns:
            self.commit()
        self._tick_seconds = time.perf_counter() - began
        return snapshot

    def publish_snapshot(self) -> Snapshot:
        """Write the journal, then publish a snapshot.

        The journal comes first, so that published counters survive a crash.
        """
        now_ns, wall = self._clock.boottime_ns(), self._clock.wall()
        self._update_runs(wall)  # commands start and end runs after a tick
        self._seq += 1
        self._write_journal(now_ns, wall)
        snapshot = Snapshot(
            tick=self._seq,
            at_ns=now_ns,
            wall=wall,
            node=self._node,
            interval_seconds=self._interval_seconds,
            devices=self._device_states(now_ns),
            rows=self._books.rows(),
            runs=self._run_registry.visible(),
            factor_uses=self._books.factor_uses(),
            grid=self._intensity_state(wall),
            collectors=self._collector_states,
            health=self._health(now_ns),
            driver_calls=self._driver_calls,
            owners=self._books.owners(),
            owner_of=self._books.owner_of(),
            members=self._workload_collector.members(),
            leaving=self._books.leaving(),
            node_state=None if self._node_meter is None else self._node_meter.state(),
            notes=self._notes,
        )
        self._publish(snapshot)
        return snapshot

    def _health(self, now_ns: int) -> DaemonHealth:
        return DaemonHealth(
            loop_seconds=self._tick_seconds,
            loop_overruns=self._missed_ticks,
            ledger_errors=self._writer.errors + self._journal_errors,
            ledger_why=self._writer.why or self._journal_error,
            commit_age_seconds=(now_ns - self._writer.committed_at_ns) / NANOSECONDS_PER_SECOND,
            series_dropped=self._run_registry.dropped,
            imbalance_uj=self._books.imbalance_uj,
            exporter_energy_uj=self._attribution.exporter_uj,
            sick=self._unrecoverable,
        )

    def _write_journal(self, now_ns: int, wall: float) -> None:
        try:
            self._journal.write(
                self._books.checkpoint(
                    seq=self._seq,
                    at_ns=now_ns,
                    wall=wall,
                    counter_states=self._counter_states(),
                    run_cpu=self._workload_collector.run_cpu(),
                    machine_cpu=self._workload_collector.machine_cpu(),
                    factor=self._chain.factor_at(wall),
                )
            )
            self._journal_error = ""
        except LedgerError as error:
            self._journal_errors += 1
            if not self._journal_error:
                log.error("journal not written", extra={"error": str(error)})  # noqa: TRY400
            self._journal_error = str(error)

    def progress_mark(self, key: RunKey, done: float) -> ProgressMark:
        """Return a mark of a run's progress `done` with its energy and carbon so far."""
        used = self._books.used(key)
        return ProgressMark(done, self._clock.wall(), used.energy_uj, used.carbon_ng)

    def count_missed_ticks(self, ticks: int) -> None:
        """Count ticks that were due and did not run."""
        self._missed_ticks += ticks

    def import_runs(self, command: ImportRuns, answer: Callable[[object], None]) -> None:
        """Import runs of another tool into the ledger; its thread calls `answer`."""
        self._writer.import_runs(command, answer)

    def commit(self, *, clean: bool = False) -> None:
        """Submit the changes since the last commit to the ledger writer.

        `clean` marks the last batch of an orderly shutdown.
        """
        self._committed_ns = self._clock.boottime_ns()
        memory = self._intensity_memory()
        is_same_memory = memory is self._submitted_memory  # a change replaces the object
        self._submitted_memory = memory
        self._writer.submit(
            self._books.batch(
                seq=self._seq,
                at_ns=self._committed_ns,
                wall=self._clock.wall(),
                counter_states=self._counter_states(),
                floors=self._attribution.floors(),
                infos=(*self._energy_counters.infos(), *self._rest_infos()),
                clean=clean,
            )._replace(intensity="" if is_same_memory else memory)
        )
        if not clean:
            self._request_backfill()

    def _request_backfill(self) -> None:
        """Request conversion of energy whose factor has become known after it was used."""
        factors = factors_for_minutes(
            self._writer.unconverted, self._chain.intervals, self._clock.wall()
        )
        if factors:
            self._writer.backfill(factors, self._ledger_results.put)

    def _read_collectors(self) -> tuple[list[Interval], list[CollectorState]]:
        intervals: list[Interval] = []
        states = []
        driver_calls: dict[str, DriverCallStats] = {}
        unrecoverable = ""
        for collector in self._device_collectors:
            observation = collector.read()
            driver_calls.update(observation.calls)
            unrecoverable = unrecoverable or observation.unrecoverable
            intervals.extend(self._energy_counters.advance(observation))
            self._log_note(observation)
            is_ok, reason = not observation.error, observation.error or observation.note
            states.append(CollectorState(collector.name, is_ok, observation.cost_seconds, reason))
        if self._node_meter is not None:
            rest, state = self._node_meter.read(intervals)
            intervals += rest
            states.append(state)
        self._driver_calls, self._unrecoverable = driver_calls, unrecoverable
        return intervals, states

    def _rest_infos(self) -> tuple[DeviceInfo, ...]:
        return () if self._node_meter is None else self._node_meter.infos()

    def _counter_states(self) -> tuple[CounterState, ...]:
        """Return the states of all counters, including those of the node."""
        node = () if self._node_meter is None else self._node_meter.counter_states()
        return (*self._energy_counters.counter_states(), *node)

    def _device_states(self, now_ns: int) -> tuple[DeviceState, ...]:
        """Return the states of all devices, including the rest of the node."""
        powers = self._books.powers()
        rest = () if self._node_meter is None else self._node_meter.states(now_ns, powers)
        return (*self._energy_counters.states(now_ns, powers), *rest)

    def _update_runs(self, wall: float) -> None:
        """Apply to the books which runs started, ended, were merged or expired."""
        committed_seq = self._writer.committed_seq  # read before the results of the ledger
        for run in self._run_registry.pop_changes():
            self._books.update_run(run)
            self._log_run(run)
        for key in self._run_registry.pop_opened():
            self._writer.look_up(key, self._ledger_results.put)
        while not self._ledger_results.empty():
            self._apply_ledger_result(self._ledger_results.get())
        for merge in self._run_registry.merges():
            if self._books.merge(merge):
                self._run_registry.drop(merge)
        for key in self._run_registry.pop_expired(wall, self._retain_seconds):
            self._books.remove_run(key)
        self._books.apply_committed(committed_seq)

    def _apply_ledger_result(self, result: StoredRun | Backfill) -> None:
        """Apply a backfill, or the stored totals of a run that was opened."""
        if isinstance(result, Backfill):
            self._books.backfill(result)
            return
        self._books.restore_run(result)
        if result.info is not None:
            self._run_registry.add_stored_run(result.info)

    def _set_collector_states(self, states: tuple[CollectorState, ...]) -> None:
        """Store the states of all collectors, and log each change once."""
        failing = {state.name: state.why for state in states if not state.ok}
        for name in failing.keys() - self._failing:
            log.warning("collector failed", extra={"collector": name, "error": failing[name]})
        for name in self._failing - failing.keys():
            log.info("collector recovered", extra={"collector": name})
        self._collector_states, self._failing = states, set(failing)

    def _log_note(self, observation: Observation) -> None:
        """Log a new note of a collector once."""
        if observation.note and observation.note != self._last_notes.get(observation.source):
            extra = {"collector": observation.source, "note": observation.note}
            log.info("collector note", extra=extra)
        self._last_notes[observation.source] = observation.note

    def _log_run(self, run: RunInfo) -> None:
        is_open = run.ended is None
        if is_open == (run.key in self._running):
            return
        extra = {**dict(zip(RUN_LABELS, run.label_values, strict=True)), "origin": run.origin}
        if is_open:
            self._running.add(run.key)
            log.info("run started", extra=extra)
        else:
            self._running.remove(run.key)
            log.info("run ended", extra=extra)
