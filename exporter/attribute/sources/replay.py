"""The workload of a recorded or made-up host: runs that begin and end as its curves say."""

from collections.abc import Callable, Iterable, Mapping

from exporter.attribute.recorded import RecordedRun, recorded_runs
from exporter.attribute.runbook import Runbook
from exporter.clock import Clock
from exporter.errors import ConfigError, Refused
from exporter.model.books import MachineCpu, RunCpu
from exporter.model.commands import End, Log, Start
from exporter.model.fields import Fields
from exporter.model.readings import NO_OCCUPANCIES, Device, DeviceInfo, Occupancy
from exporter.model.runs import Mark, RunInfo, RunKey
from exporter.model.workload import CollectorState, Holding, Machine, Sighting, Usage
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND


class ReplayWitness:
    """Sees what the recording says; the machine's own processes are left alone."""

    def __init__(
        self,
        document: object,
        runbook: Runbook,
        clock: Clock,
        mark_of: Callable[[RunKey, float], Mark],
        path: str = "the recorded host",
    ) -> None:
        """`document` is what is in the file at `path`; `mark_of` says what a run used so far.

        Raises ConfigError naming file and place.
        """
        self._runbook = runbook
        self._clock = clock
        self._mark_of = mark_of
        try:
            host = Fields(document)
            self._period = host.positive("period_seconds")
            self._threads = host.count("threads", least=1)
            self._memory_total = host.count("memory_total_bytes", least=1)
            self._other = host.curve("other_cpu", self._period, [[0, 0]])
            self._parts = recorded_runs(host)
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        self._owners = {
            seat.pid: part.info.key
            for part in self._parts
            for seat in part.seats
            if seat.pid is not None
        }
        self._seen = clock.boottime_ns() / NANOSECONDS_PER_SECOND

    def look(
        self,
        _occupancies: Mapping[Device, Occupancy] = NO_OCCUPANCIES,
        _infos: Iterable[DeviceInfo] = (),
    ) -> Sighting:
        """What was used since the last look, by the curves."""
        at_ns = self._clock.boottime_ns()
        t0, t1 = self._seen, at_ns / NANOSECONDS_PER_SECOND
        self._seen = t1
        busy = self._other.integral(t0, t1)
        usage = []
        holdings: list[Holding] = []
        for part in self._parts:
            run = part.info.key
            was_open = self._runbook.is_open(run)
            is_open = self._follow(part, t1 % self._period)
            if is_open or was_open:
                t = t1 if is_open else t0
                holdings += [seat.holding(run, t, self._period) for seat in part.seats]
            if not is_open:
                continue
            self._tell(part, t0, t1)
            used = part.cpu.integral(t0, t1)
            busy += used
            usage.append(
                Usage(part.info.key, round(used * MICROSECONDS_PER_SECOND), part.memory_bytes)
            )
        machine = Machine(
            round(busy * MICROSECONDS_PER_SECOND),
            round((t1 - t0) * self._threads * MICROSECONDS_PER_SECOND),
            sum(row.memory_bytes for row in usage),
            self._memory_total,
        )
        return Sighting(at_ns, tuple(usage), machine, None, tuple(holdings), self._owners)

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods of the runs that are open."""
        return {
            part.info.key: part.members
            for part in self._parts
            if part.members and self._runbook.is_open(part.info.key)
        }

    def states(self) -> tuple[CollectorState, ...]:
        """A recording cannot fail."""
        return (CollectorState("replay_workload", ok=True, seconds=0.0),)

    def run_cpu(self) -> tuple[RunCpu, ...]:
        """Nothing can be proven of a time that was not played."""
        return ()

    def machine_cpu(self) -> MachineCpu | None:
        """As above."""
        return None

    def start(self, command: Start) -> RunInfo:
        """Refuse."""
        raise _refusal(command)

    def log(self, command: Log, _mark_of: Callable[[RunKey, float], Mark]) -> RunInfo:
        """Refuse."""
        raise _refusal(command)

    def end(self, command: End) -> RunInfo:
        """Refuse."""
        raise _refusal(command)

    def _follow(self, part: RecordedRun, phase: float) -> bool:
        """Open or close the run as the recording says; whether it is open."""
        wanted = part.starts <= phase < part.ends
        is_open = self._runbook.is_open(part.info.key)
        if wanted and not is_open:
            self._runbook.open(part.info._replace(started=self._clock.wall()))
        elif is_open and not wanted:
            self._runbook.close(part.info.key, self._clock.wall(), "ended")
        return wanted

    def _tell(self, part: RecordedRun, t0: float, t1: float) -> None:
        """Note what the run says of itself; how far it is, as of the last look, as what it used."""
        run = part.info.key
        counts, done = part.counted(t0, t1), part.done(t1 % self._period - (t1 - t0))
        if not self._runbook.is_open(run) or (not counts and done is None):
            return
        told = Log(run.uid, run.run_id, run.job_id, counts=counts, done=done, total=part.steps)
        self._runbook.note(told, run, self._mark_of(run, done or 0.0))


def _refusal(command: Start | Log | End) -> Refused:
    return Refused(409, f"this daemon plays a recorded host; run {command.run_id!r} is not on it")
