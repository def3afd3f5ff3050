"""The loop: samples, attributes, converts, accounts and publishes. The only writer."""

import logging
import queue
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from exporter.account.books import Books
from exporter.account.journal import Journal
from exporter.account.writer import Writer
from exporter.attribute.attribution import Attribution
from exporter.attribute.runbook import Runbook
from exporter.clock import Clock
from exporter.convert.chain import Chain
from exporter.convert.entries import entries
from exporter.errors import LedgerError, Refused
from exporter.model.books import MachineCpu, Past, Posting, RunCpu
from exporter.model.commands import Command, End, Request, Start, Stop
from exporter.model.readings import Interval, Sampler
from exporter.model.runs import RunInfo
from exporter.model.snapshot import Health, Snapshot, record_of
from exporter.model.workload import CollectorState, Sighting
from exporter.sample.meters import Meters
from exporter.units import NANOSECONDS_PER_SECOND

log = logging.getLogger(__name__)

SPACING_NS = 100_000_000
"""Least time between two ticks: runs that begin and end in quick succession share one."""


class Witness(Protocol):
    """Where sightings come from, and who is asked to begin and end runs."""

    def look(self) -> Sighting:
        """Who used what since the last call."""

    def states(self) -> tuple[CollectorState, ...]:
        """How the last look fared."""

    def run_cpu(self) -> tuple[RunCpu, ...]:
        """What the open runs' processes have used so far."""

    def machine_cpu(self) -> MachineCpu | None:
        """The machine's clocks at the last look."""

    def start(self, command: Start) -> RunInfo:
        """Open a run. Raises Refused."""

    def end(self, command: End) -> RunInfo:
        """Close a run. Raises Refused."""


class Loop:
    """One thread, one inbox, one tick at a time; everything else reads what it published."""

    def __init__(
        self,
        *,
        node: str,
        clock: Clock,
        samplers: Sequence[Sampler],
        missing: Sequence[CollectorState],
        notes: tuple[str, ...],
        meters: Meters,
        witness: Witness,
        runbook: Runbook,
        attribution: Attribution,
        chain: Chain,
        intensity_states: Callable[[], Iterable[CollectorState]],
        books: Books,
        journal: Journal,
        writer: Writer,
        publish: Callable[[Snapshot], None],
        inbox: "queue.SimpleQueue[Request]",
        first_seq: int,
        interval_seconds: float,
        retain_ended_seconds: float,
        commit_seconds: float,
    ) -> None:
        self._node = node
        self._clock = clock
        self._samplers = samplers
        self._missing = missing
        self._notes = notes
        self._meters = meters
        self._witness = witness
        self._runbook = runbook
        self._attribution = attribution
        self._chain = chain
        self._intensity_states = intensity_states
        self._books = books
        self._journal = journal
        self._writer = writer
        self._publish = publish
        self._inbox = inbox
        self._seq = first_seq
        self._interval_ns = round(interval_seconds * NANOSECONDS_PER_SECOND)
        self._retain_seconds = retain_ended_seconds
        self._commit_ns = round(commit_seconds * NANOSECONDS_PER_SECOND)
        self._due_ns = 0
        self._ticked_ns = 0
        self._committed_ns = 0
        self._cost_seconds = 0.0
        self._overruns = 0
        self._journal_why = ""
        self._stopping = False

    def run(self) -> None:
        """Tick until told to stop; then make everything durable."""
        self._due_ns = self._committed_ns = self._clock.boottime_ns()
        while not self._stopping:
            self.turn(self._wait())
        self.commit(clean=True)

    def turn(self, requests: Sequence[Request]) -> None:
        """A tick, where it is due or an owner changes, and then what was asked for.

        So a run begins and ends on the boundary of a tick, and short runs are exact.
        """
        if not requests or any(_changes_ownership(request.command) for request in requests):
            self.tick()
        self._obey(requests)

    def tick(self) -> Snapshot:
        """One turn of the pipeline."""
        began = time.perf_counter()
        now_ns, wall = self._clock.boottime_ns(), self._clock.wall()
        collectors: list[CollectorState] = []
        sighting = self._witness.look()
        intervals = self._sample(collectors)
        devices = [info.device for info in self._meters.infos()]
        offset = wall - now_ns / NANOSECONDS_PER_SECOND
        postings = []
        for interval, shares in self._attribution.shares(intervals, devices, sighting):
            t0 = interval.t0_ns / NANOSECONDS_PER_SECOND + offset
            t1 = interval.t1_ns / NANOSECONDS_PER_SECOND + offset
            spells = self._chain.spells(t0, t1)
            postings.append(Posting(interval, entries(interval, shares, spells, offset)))
        self._keep_runs(wall)
        self._books.declare(self._meters.infos())
        self._books.post(postings, now_ns)
        collectors += [*self._witness.states(), *self._intensity_states(), *self._missing]
        self._ticked_ns = now_ns
        snapshot = self._show(now_ns, wall, tuple(collectors))
        if now_ns - self._committed_ns >= self._commit_ns:
            self.commit()
        self._cost_seconds = time.perf_counter() - began
        return snapshot

    def commit(self, *, clean: bool = False) -> None:
        """Hand the changes since the last commit to the ledger's thread."""
        self._committed_ns = self._clock.boottime_ns()
        self._writer.submit(
            self._books.batch(
                seq=self._seq,
                at_ns=self._committed_ns,
                wall=self._clock.wall(),
                positions=self._meters.positions(),
                floors=self._attribution.floors(),
                infos=self._meters.infos(),
                clean=clean,
            )
        )

    def _sample(self, collectors: list[CollectorState]) -> list[Interval]:
        intervals: list[Interval] = []
        for sampler in self._samplers:
            observation = sampler.read()
            intervals.extend(self._meters.advance(observation))
            collectors.append(
                CollectorState(
                    sampler.name,
                    not observation.error,
                    observation.cost_seconds,
                    observation.error,
                )
            )
        return intervals

    def _keep_runs(self, wall: float) -> None:
        """Tell the books which runs began, ended or left the page."""
        for run in self._runbook.changes():
            self._books.note_run(run)
            log.info("run %s", "ended" if run.ended else "began", extra=_named(run))
        for key in self._runbook.newcomers():
            self._writer.look_up(key, self._remember)
        for key in self._runbook.expire(wall, self._retain_seconds):
            self._books.depart(key)
        self._books.settle(self._writer.committed_seq)

    def _remember(self, past: Past) -> None:
        """Take a run's past from the ledger's thread into the loop's own."""
        self._inbox.put(Request(past, lambda _: None))

    def _show(self, now_ns: int, wall: float, collectors: tuple[CollectorState, ...]) -> Snapshot:
        """Write the journal, so that what is shown next survives us; then show it."""
        self._seq += 1
        try:
            self._journal.write(
                self._books.image(
                    seq=self._seq,
                    at_ns=now_ns,
                    wall=wall,
                    positions=self._meters.positions(),
                    run_cpu=self._witness.run_cpu(),
                    machine_cpu=self._witness.machine_cpu(),
                    factor=self._chain.in_force(wall),
                )
            )
            self._journal_why = ""
        except LedgerError as error:
            if not self._journal_why:
                log.error("journal not written: %s", error)  # noqa: TRY400  the text says it all
            self._journal_why = str(error)
        snapshot = Snapshot(
            tick=self._seq,
            at_ns=now_ns,
            wall=wall,
            node=self._node,
            interval_seconds=self._interval_ns / NANOSECONDS_PER_SECOND,
            devices=self._meters.states(now_ns, self._books.powers()),
            rows=self._books.rows(),
            runs=self._runbook.shown(),
            factor_uses=self._books.factor_uses(),
            grid=self._chain.grid(wall),
            collectors=collectors,
            health=Health(
                loop_seconds=self._cost_seconds,
                loop_overruns=self._overruns,
                ledger_errors=self._writer.errors,
                ledger_why=self._writer.why or self._journal_why,
                commit_age_seconds=(now_ns - self._writer.committed_at_ns) / NANOSECONDS_PER_SECOND,
                series_dropped=self._runbook.dropped,
                imbalance_uj=self._books.imbalance_uj,
                exporter_energy_uj=self._attribution.exporter_uj,
            ),
            notes=self._notes,
        )
        self._last = snapshot
        self._publish(snapshot)
        return snapshot

    def _wait(self) -> list[Request]:
        """Requests, as soon as there are some and a tick is allowed; none when the tick is due."""
        requests: list[Request] = []
        while True:
            now_ns = self._clock.boottime_ns()
            until_ns = self._ticked_ns + SPACING_NS if requests else self._due_ns
            if now_ns >= until_ns:
                break
            try:
                requests.append(
                    self._inbox.get(timeout=(until_ns - now_ns) / NANOSECONDS_PER_SECOND)
                )
            except queue.Empty:
                break
        if not requests:
            self._schedule(now_ns)
        return requests

    def _schedule(self, now_ns: int) -> None:
        """Set the next due time; ticks that were missed are counted, not made up for."""
        missed = (now_ns - self._due_ns) // self._interval_ns
        if self._due_ns and missed > 0:
            self._overruns += missed
        self._due_ns += (max(0, missed) + 1) * self._interval_ns

    def _obey(self, requests: Sequence[Request]) -> None:
        answers = [(request, self._carry_out(request.command)) for request in requests]
        if any(answer is not None for _, answer in answers):
            self._keep_runs(self._clock.wall())
            self._show(self._ticked_ns, self._last.wall, self._last.collectors)
            if any(isinstance(request.command, End) for request, _ in answers):
                self.commit()
        for request, answer in answers:
            if isinstance(answer, RunInfo):
                request.answer(record_of(self._last, answer))
            elif answer is not None:
                request.answer(answer)

    def _carry_out(self, command: Command) -> RunInfo | Refused | None:
        try:
            match command:
                case Start():
                    return self._witness.start(command)
                case End():
                    return self._witness.end(command)
                case Past():
                    self._books.rejoin(command)
                    if command.info is not None:
                        self._runbook.learn_start(command.key, command.info.started)
                case Stop():
                    self._stopping = True
        except Refused as refusal:
            return refusal
        return None


def _changes_ownership(command: Command) -> bool:
    return isinstance(command, Start | End | Stop)


def _named(run: RunInfo) -> dict[str, str]:
    return {"run_id": run.shown_id, "job_id": run.key.job_id, "origin": run.origin}
