"""The workload of a recorded or simulated host: runs start and end by its description."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from exporter.attribute.run_registry import RunRegistry
from exporter.clock import Clock
from exporter.errors import ConfigError, RequestRefused
from exporter.model.commands import EndRun, LogRun, StartRun
from exporter.model.ledger import HostCpuTime, RunCpuTime
from exporter.model.readings import NO_GPU_ACTIVITY, Device, DeviceInfo, GpuActivity
from exporter.model.recorded_host import (
    Curve,
    HostFields,
    RecordedHolding,
    active_period,
    recorded_holdings,
    recorded_partitionings,
)
from exporter.model.runs import REPLAY, ProgressMark, RunInfo, RunKey
from exporter.model.workload import CollectorState, GpuHolding, HostUsage, RunUsage, WorkloadSample
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND

FIRST_RECORDED_UID = 1000


class RecordedRun(NamedTuple):
    """One row of `workload`."""

    info: RunInfo
    starts: float
    ends: float
    """Start and end, seconds within the period."""
    cpu: Curve
    """Busy hardware threads."""
    memory_bytes: int
    gpu_holdings: tuple[RecordedHolding, ...]
    members: tuple[tuple[str, str], ...]
    """Its pods and containers."""
    counts: tuple[tuple[str, Curve], ...]
    """Counted units and their rates per second."""
    steps: int
    """Steps of its progress, done evenly from start to end; 0: no progress is reported."""

    def counted(self, begin_seconds: float, end_seconds: float) -> tuple[tuple[str, float], ...]:
        """Whole units counted between two times."""
        return tuple(
            (unit, math.floor(rate.integral(0, end_seconds)) - math.floor(before))
            for unit, rate in self.counts
            for before in (rate.integral(0, begin_seconds),)
        )

    def done(self, phase: float) -> float | None:
        """Steps done at `phase` seconds into the period; None: no progress is reported."""
        if not self.steps:
            return None
        return self.steps * max(0.0, phase - self.starts) / (self.ends - self.starts)


def recorded_runs(host: HostFields) -> list[RecordedRun]:
    """Parse the runs, with a uid for each user name. Raises ValueError with the location."""
    rows, gpus, period = (
        host.rows("workload"),
        recorded_partitionings(host),
        host.positive("period_seconds"),
    )
    users = sorted({row.text("user", "") for row in rows})
    return [
        RecordedRun(
            _info(row, FIRST_RECORDED_UID + users.index(row.text("user", ""))),
            *active_period(row, period),
            row.curve("cpu", period),
            row.count("memory_bytes", 0),
            recorded_holdings(row, period, gpus),
            tuple((each.text("pod"), each.text("container")) for each in row.rows("members")),
            _counts(row.part("counts"), period),
            row.count("steps", 0),
        )
        for row in rows
    ]


def _info(row: HostFields, uid: int) -> RunInfo:
    return RunInfo(
        key=RunKey(uid, row.text("run_id"), row.text("job_id", "")),
        name=row.text("name", ""),
        user=row.text("user", ""),
        origin=REPLAY,
        started=0.0,
        account=row.text("account", ""),
        labels=tuple(sorted(row.texts("labels").items())),
        budget_grams=row.positive("budget_grams") if "budget_grams" in row else None,
        namespace=row.text("namespace", ""),
    )


def _counts(row: HostFields, period: float) -> tuple[tuple[str, Curve], ...]:
    return tuple((unit, row.curve(unit, period)) for unit in row.names())


class ReplayWorkloadCollector:
    """Plays the workload of a recorded host; processes of this machine are not read."""

    def __init__(
        self,
        document: object,
        run_registry: RunRegistry,
        clock: Clock,
        mark_of: Callable[[RunKey, float], ProgressMark],
        path: str = "the recorded host",
    ) -> None:
        """Parse `document`, the content of the file at `path`.

        `mark_of` returns a run's progress mark, with its energy so far. Raises ConfigError with the
        file and the location in it.
        """
        self._run_registry = run_registry
        self._clock = clock
        self._mark_of = mark_of
        try:
            host = HostFields(document)
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
            for seat in part.gpu_holdings
            if seat.pid is not None
        }
        self._seen = clock.boottime_ns() / NANOSECONDS_PER_SECOND

    def collect(
        self,
        _gpu_activity: Mapping[Device, GpuActivity] = NO_GPU_ACTIVITY,
        _infos: Iterable[DeviceInfo] = (),
    ) -> WorkloadSample:
        """Usage since the last call, by the curves."""
        at_ns = self._clock.boottime_ns()
        t0, t1 = self._seen, at_ns / NANOSECONDS_PER_SECOND
        self._seen = t1
        busy = self._other.integral(t0, t1)
        usage = []
        holdings: list[GpuHolding] = []
        for part in self._parts:
            run = part.info.key
            was_open = self._run_registry.is_open(run)
            is_open = self._open_or_close(part, t1 % self._period)
            if is_open or was_open:
                t = t1 if is_open else t0
                holdings += [seat.holding(run, t, self._period) for seat in part.gpu_holdings]
            if not is_open:
                continue
            self._record_results(part, t0, t1)
            used = part.cpu.integral(t0, t1)
            busy += used
            usage.append(
                RunUsage(part.info.key, round(used * MICROSECONDS_PER_SECOND), part.memory_bytes)
            )
        machine = HostUsage(
            round(busy * MICROSECONDS_PER_SECOND),
            round((t1 - t0) * self._threads * MICROSECONDS_PER_SECOND),
            sum(row.memory_bytes for row in usage),
            self._memory_total,
        )
        return WorkloadSample(at_ns, tuple(usage), machine, None, tuple(holdings), self._owners)

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods of the runs that are open."""
        return {
            part.info.key: part.members
            for part in self._parts
            if part.members and self._run_registry.is_open(part.info.key)
        }

    def states(self) -> tuple[CollectorState, ...]:
        """Always successful."""
        return (CollectorState("replay_workload", ok=True, seconds=0.0),)

    def run_cpu(self) -> tuple[RunCpuTime, ...]:
        """Empty: time that was not played has no usage."""
        return ()

    def machine_cpu(self) -> HostCpuTime | None:
        """None, like `run_cpu`."""
        return None

    def start(self, command: StartRun) -> RunInfo:
        """Not supported. Raises RequestRefused."""
        raise _refusal(command.run.key.run_id)

    def log(self, command: LogRun, _mark_of: Callable[[RunKey, float], ProgressMark]) -> RunInfo:
        """Not supported. Raises RequestRefused."""
        raise _refusal(command.run_id)

    def end(self, command: EndRun) -> RunInfo:
        """Not supported. Raises RequestRefused."""
        raise _refusal(command.run_id)

    def _open_or_close(self, part: RecordedRun, phase: float) -> bool:
        """Open or close the run as recorded; returns whether it is open."""
        wanted = part.starts <= phase < part.ends
        is_open = self._run_registry.is_open(part.info.key)
        if wanted and not is_open:
            self._run_registry.open(part.info._replace(started=self._clock.wall()))
        elif is_open and not wanted:
            self._run_registry.close(part.info.key, self._clock.wall(), "ended")
        return wanted

    def _record_results(self, part: RecordedRun, t0: float, t1: float) -> None:
        """Record counts and progress of the run; progress as of the last sample, like its usage."""
        run = part.info.key
        counts, done = part.counted(t0, t1), part.done(t1 % self._period - (t1 - t0))
        if not self._run_registry.is_open(run) or (not counts and done is None):
            return
        update = LogRun(run.uid, run.run_id, run.job_id, counts=counts, done=done, total=part.steps)
        self._run_registry.log_results(update, run, self._mark_of(run, done or 0.0))


def _refusal(run_id: str) -> RequestRefused:
    return RequestRefused(409, f"this daemon plays a recorded host and accepts no runs: {run_id!r}")
