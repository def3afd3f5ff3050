"""Runs that nobody registers: jobs and pods."""

from collections.abc import Iterator, Mapping, Sequence

from exporter.attribute.sources.grants import Grant
from exporter.attribute.sources.jobs import Jobs
from exporter.attribute.sources.kube.pods import Pods
from exporter.model.runs import RunKey
from exporter.model.workload import CollectorState


class Scheduled:
    """What the schedulers of this node have put on it."""

    def __init__(self, jobs: Jobs, pods: Pods | None) -> None:
        self._jobs = jobs
        self._pods = pods
        self._sources: Sequence[Jobs | Pods] = (jobs,) if pods is None else (jobs, pods)

    def look(self) -> None:
        """Open the runs of what is new; before the processes are looked at."""
        for source in self._sources:
            source.look()

    def claim_processes(self) -> None:
        """Find processes that are counted one by one; after they were looked at."""
        for source in self._sources:
            source.claim_processes()

    def adopts(self, pid: int) -> RunKey | None:
        """The run of a new process, if its processes are counted one by one."""
        return next(filter(None, (source.adopts(pid) for source in self._sources)), None)

    def run_of(self, pid: int) -> RunKey | None:
        """The job or pod that a process is in, by its cgroup."""
        return next(filter(None, (source.run_of(pid) for source in self._sources)), None)

    def is_here(self, key: RunKey) -> bool:
        """Whether the run is a job or pods of which one has not ended."""
        return any(source.is_here(key) for source in self._sources)

    def grants(self, names: Mapping[str, str]) -> Iterator[Grant]:
        """The GPUs that were given to them; `names` has UUIDs by what else GPUs are called."""
        yield from self._jobs.grants(names)
        if self._pods is not None:
            yield from self._pods.grants(names)

    def held_threads(self) -> Mapping[RunKey, int]:
        """Hardware threads that runs have alone."""
        return self._pods.held_threads() if self._pods is not None else {}

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers of each run."""
        return self._pods.members() if self._pods is not None else {}

    def states(self) -> tuple[CollectorState, ...]:
        """How their sources fare."""
        return self._pods.states() if self._pods is not None else ()
