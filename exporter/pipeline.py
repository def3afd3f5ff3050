"""One tick: sample, attribute, convert, account, expose."""

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
    Device,
    DeviceCollector,
    DeviceInfo,
    DriverCallStats,
    GpuActivity,
    Interval,
    Observation,
)
from exporter.model.runs import ProgressMark, RunInfo, RunKey
from exporter.model.snapshot import DaemonHealth, IntensityState, Snapshot
from exporter.model.workload import CollectorState, WorkloadSample
from exporter.sample.energy_counters import EnergyCounters
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)


class WorkloadCollector(Protocol):
    """Where sightings come from, and who is asked to begin and end runs."""

    def collect(
        self, occupancies: Mapping[Device, GpuActivity], infos: Iterable[DeviceInfo]
    ) -> WorkloadSample:
        """Who used what since the last call; `occupancies` say which process is on which GPU."""

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers of each run that has some."""

    def states(self) -> tuple[CollectorState, ...]:
        """How the last look fared."""

    def run_cpu(self) -> tuple[RunCpuTime, ...]:
        """What the open runs' processes have used so far."""

    def machine_cpu(self) -> HostCpuTime | None:
        """The machine's clocks at the last look."""

    def start(self, command: StartRun) -> RunInfo:
        """Open a run. Raises Refused."""

    def log(self, command: LogRun, mark_of: Callable[[RunKey, float], ProgressMark]) -> RunInfo:
        """Add to what a run says of itself. Raises Refused."""

    def end(self, command: EndRun) -> RunInfo:
        """Close a run. Raises Refused."""


class Pipeline:
    """The five stages in a row, and the only writer of what they keep."""

    def __init__(
        self,
        *,
        node: str,
        clock: Clock,
        device_collectors: Sequence[DeviceCollector],
        missing: Sequence[CollectorState],
        notes: tuple[str, ...],
        energy_counters: EnergyCounters,
        workload_collector: WorkloadCollector,
        run_registry: RunRegistry,
        attribution: Attribution,
        chain: IntensityChain,
        grid: Callable[[float], IntensityState],
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
        self._samplers = device_collectors
        self._missing = missing
        self._notes = notes
        self._meters = energy_counters
        self._workload_collector = workload_collector
        self._run_registry = run_registry
        self._attribution = attribution
        self._chain = chain
        self._grid = grid
        self._other_states = other_states
        self._intensity_memory = intensity_memory
        self._kept_memory = ""
        self._books = books
        self._journal = journal
        self._writer = writer
        self._publish = publish
        self._seq = first_seq
        self._interval_seconds = interval_seconds
        self._retain_seconds = retain_ended_seconds
        self._commit_ns = round(commit_seconds * NANOSECONDS_PER_SECOND)
        self._committed_ns = clock.boottime_ns()
        self._collectors: tuple[CollectorState, ...] = ()
        self._failing = {state.name for state in missing}
        self._noted: dict[str, str] = {}
        self._calls: Mapping[str, DriverCallStats] = {}
        self._sick = ""
        self._cost_seconds = 0.0
        self._journal_errors = 0
        self._journal_why = ""
        # One for both: a past has the fills that were told before it, and no other.
        self._told: queue.SimpleQueue[StoredRun | Backfill] = queue.SimpleQueue()
        self._overruns = 0
        self._running: set[RunKey] = set()
        self._is_resuming = bool(energy_counters.counter_states())

    def tick(self) -> Snapshot:
        """One turn of all five stages."""
        began = time.perf_counter()
        now_ns, wall = self._clock.boottime_ns(), self._clock.wall()
        offset = wall - now_ns / NANOSECONDS_PER_SECOND
        self._recognize()
        occupancies = self._meters.gpu_activity()
        sighting = self._workload_collector.collect(occupancies, self._meters.infos())
        intervals, sampled = self._sample()
        infos = self._meters.infos()
        devices = [info.device for info in infos]
        postings = []
        for interval, shares in self._attribution.shares(intervals, devices, sighting, occupancies):
            t0 = interval.t0_ns / NANOSECONDS_PER_SECOND + offset
            t1 = interval.t1_ns / NANOSECONDS_PER_SECOND + offset
            spells = self._chain.intervals(t0, t1)
            postings.append(
                IntervalPostings(interval, convert_shares(interval, shares, spells, offset))
            )
        self._books.register_devices(self._meters.counted())
        self._keep_runs(wall)
        self._books.post(postings, now_ns)
        self._note_collectors(
            (*sampled, *self._workload_collector.states(), *self._other_states(), *self._missing)
        )
        snapshot = self.publish_snapshot()
        if now_ns - self._committed_ns >= self._commit_ns:
            self.commit()
        self._cost_seconds = time.perf_counter() - began
        return snapshot

    def publish_snapshot(self) -> Snapshot:
        """Write the journal, so that what is shown next survives us; then show it."""
        now_ns, wall = self._clock.boottime_ns(), self._clock.wall()
        self._keep_runs(wall)
        self._seq += 1
        self._write_journal(now_ns, wall)
        snapshot = Snapshot(
            tick=self._seq,
            at_ns=now_ns,
            wall=wall,
            node=self._node,
            interval_seconds=self._interval_seconds,
            devices=self._meters.states(now_ns, self._books.powers()),
            rows=self._books.rows(),
            runs=self._run_registry.visible(),
            factor_uses=self._books.factor_uses(),
            grid=self._grid(wall),
            collectors=self._collectors,
            health=self._health(now_ns),
            driver_calls=self._calls,
            owners=self._books.owners(),
            owner_of=self._books.owner_of(),
            members=self._workload_collector.members(),
            leaving=self._books.leaving(),
            notes=self._notes,
        )
        self._publish(snapshot)
        return snapshot

    def _health(self, now_ns: int) -> DaemonHealth:
        return DaemonHealth(
            loop_seconds=self._cost_seconds,
            loop_overruns=self._overruns,
            ledger_errors=self._writer.errors + self._journal_errors,
            ledger_why=self._writer.why or self._journal_why,
            commit_age_seconds=(now_ns - self._writer.committed_at_ns) / NANOSECONDS_PER_SECOND,
            series_dropped=self._run_registry.dropped,
            imbalance_uj=self._books.imbalance_uj,
            exporter_energy_uj=self._attribution.exporter_uj,
            sick=self._sick,
        )

    def _write_journal(self, now_ns: int, wall: float) -> None:
        try:
            self._journal.write(
                self._books.checkpoint(
                    seq=self._seq,
                    at_ns=now_ns,
                    wall=wall,
                    counter_states=self._meters.counter_states(),
                    run_cpu=self._workload_collector.run_cpu(),
                    machine_cpu=self._workload_collector.machine_cpu(),
                    factor=self._chain.factor_at(wall),
                )
            )
            self._journal_why = ""
        except LedgerError as error:
            self._journal_errors += 1
            if not self._journal_why:
                log.error("journal not written: %s", error)  # noqa: TRY400  the text says it all
            self._journal_why = str(error)

    def progress_mark(self, key: RunKey, done: float) -> ProgressMark:
        """How far a run has come, and what it has used by now."""
        used = self._books.used(key)
        return ProgressMark(done, self._clock.wall(), used.energy_uj, used.carbon_ng)

    def count_missed_ticks(self, ticks: int) -> None:
        """Count ticks that were due and did not happen."""
        self._overruns += ticks

    def import_runs(self, command: ImportRuns, answer: Callable[[object], None]) -> None:
        """Have runs of another tool put into the ledger; `answer` is called on its thread."""
        self._writer.import_runs(command, answer)

    def commit(self, *, clean: bool = False) -> None:
        """Hand the changes since the last commit to the ledger's thread."""
        self._committed_ns = self._clock.boottime_ns()
        memory, kept = self._intensity_memory(), self._kept_memory
        self._kept_memory = memory
        self._writer.submit(
            self._books.batch(
                seq=self._seq,
                at_ns=self._committed_ns,
                wall=self._clock.wall(),
                counter_states=self._meters.counter_states(),
                floors=self._attribution.floors(),
                infos=self._meters.infos(),
                clean=clean,
            )._replace(intensity="" if memory is kept else memory)
        )
        if not clean:
            self._fill_in()

    def _fill_in(self) -> None:
        """Have energy converted that had no factor in its time, and has one now."""
        factors = factors_for_minutes(
            self._writer.unconverted, self._chain.intervals, self._clock.wall()
        )
        if factors:
            self._writer.backfill(factors, self._told.put)

    def _recognize(self) -> None:
        """After a restart, find out which devices there are before who holds them is asked.

        Schedulers name some by number or by a part. What was used meanwhile is settled at the first
        tick, so at that they must be known; later ones use what the tick before has seen.
        """
        if self._is_resuming:
            self._is_resuming = False
            for sampler in self._samplers:
                self._meters.register(sampler.read())

    def _sample(self) -> tuple[list[Interval], list[CollectorState]]:
        intervals: list[Interval] = []
        states = []
        calls: dict[str, DriverCallStats] = {}
        sick = ""
        for sampler in self._samplers:
            observation = sampler.read()
            calls.update(observation.calls)
            sick = sick or observation.sick
            intervals.extend(self._meters.advance(observation))
            self._note(observation)
            is_ok, why = not observation.error, observation.error or observation.note
            states.append(CollectorState(sampler.name, is_ok, observation.cost_seconds, why))
        self._calls, self._sick = calls, sick
        return intervals, states

    def _keep_runs(self, wall: float) -> None:
        """Tell the books which runs began, ended, were merged or left the page."""
        committed_seq = self._writer.committed_seq  # before what the ledger told meanwhile
        for run in self._run_registry.pop_changes():
            self._books.update_run(run)
            self._log(run)
        for key in self._run_registry.pop_opened():
            self._writer.look_up(key, self._told.put)
        while not self._told.empty():
            self._remember(self._told.get())
        for merge in self._run_registry.merges():
            if self._books.merge(merge):
                self._run_registry.drop(merge)
        for key in self._run_registry.pop_expired(wall, self._retain_seconds):
            self._books.remove_run(key)
        self._books.apply_committed(committed_seq)

    def _remember(self, told: StoredRun | Backfill) -> None:
        """Add what the ledger knew of a run before it began here, or what it filled in."""
        if isinstance(told, Backfill):
            self._books.backfill(told)
            return
        self._books.restore_run(told)
        if told.info is not None:
            self._run_registry.add_stored_run(told.info)

    def _note_collectors(self, states: tuple[CollectorState, ...]) -> None:
        """Keep what the collectors say, and log once what has changed of it."""
        failing = {state.name: state.why for state in states if not state.ok}
        for name in failing.keys() - self._failing:
            log.warning("collector fails", extra={"collector": name, "why": failing[name]})
        for name in self._failing - failing.keys():
            log.info("collector works again", extra={"collector": name})
        self._collectors, self._failing = states, set(failing)

    def _note(self, observation: Observation) -> None:
        """Log what a source reports besides failures, once."""
        if observation.note and observation.note != self._noted.get(observation.source):
            extra = {"collector": observation.source, "why": observation.note}
            log.info("collector note", extra=extra)
        self._noted[observation.source] = observation.note

    def _log(self, run: RunInfo) -> None:
        is_open = run.ended is None
        if is_open == (run.key in self._running):
            return
        (self._running.add if is_open else self._running.discard)(run.key)
        named = {"run_id": run.shown_id, "job_id": run.key.job_id, "origin": run.origin}
        log.info("run began" if is_open else "run ended", extra=named)
