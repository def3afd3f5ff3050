"""Jobs of the scheduler as runs: from cgroups, and from what its prolog wrote down."""

import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from exporter.attribute.runbook import OTHER_RUN, Runbook
from exporter.attribute.sources.allocations import Allocation, Allocations
from exporter.attribute.sources.cgroup_runs import CgroupRuns
from exporter.attribute.sources.cgroups import CgroupMeter
from exporter.attribute.sources.gpu_names import gpu_of
from exporter.attribute.sources.grants import Grant
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.slurm import SlurmCgroup, SlurmCgroups
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.runs import RunInfo, RunKey
from exporter.units import NANOSECONDS_PER_SECOND

ORIGIN = "slurm"
NO_NAMES: Mapping[str, str] = MappingProxyType({})
SCAN_LOOKS = 5
"""Looks between two searches for processes that a job's own ones did not give birth to."""
STALE_NS = 600 * NANOSECONDS_PER_SECOND
"""What an epilog that never ran left behind counts no more so long after the job's cgroup went."""


class _Job(NamedTuple):
    """A job that is here."""

    key: RunKey
    gpus: tuple[str, ...] = ()
    since_ns: int = 0
    """Since when it holds them, CLOCK_BOOTTIME."""


class Jobs:
    """Opens the runs of jobs, and finds their processes and what they hold."""

    def __init__(
        self,
        *,
        procfs: str,
        allocations: Allocations,
        runbook: Runbook,
        processes: ProcessTable,
        cgroup_runs: CgroupRuns,
        clock: Clock,
        user_name: Callable[[int], str],
    ) -> None:
        self._procfs = procfs
        self._slurm = SlurmCgroups(procfs)
        self._allocations = allocations
        self._runbook = runbook
        self._processes = processes
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._user_name = user_name
        self._jobs: dict[str, _Job] = {}
        self._left_ns: dict[str, int] = {}
        """When the cgroup of a job went that is still written down."""
        self._empty: set[str] = set()
        """Jobs whose cgroup has no process."""
        self._looks = 0

    def look(self) -> None:
        """Open the runs of new jobs; before the processes are looked at."""
        cgroups = self._populated(self._slurm.look())
        now_ns = self._clock.boottime_ns()
        written = self._without_stale(self._allocations.look(), cgroups, now_ns)
        known, self._jobs = self._jobs, {}
        for job_id in (*cgroups, *(written.keys() - cgroups.keys())):
            allocation = written.get(job_id)
            uid = allocation.uid if allocation else self._uid(job_id)
            if uid is None:
                continue
            job = known.get(job_id)
            run = self._info(job_id, uid, allocation)
            if job is None or (allocation is not None and allocation.gpus != job.gpus):
                key = self._runbook.open(run).key
                job = _Job(key, *self._held(allocation, now_ns))
            self._jobs[job_id] = job
            if job_id in cgroups and job.key != OTHER_RUN and self._runbook.is_open(job.key):
                self._meter(job.key, cgroups[job_id].at, is_new=self._looks > 0)
        self._looks += 1

    def claim_processes(self) -> None:
        """Give jobs those of their processes that nobody has; after they were looked at."""
        if self._looks % SCAN_LOOKS != 1:
            return
        for job_id, job in self._jobs.items():
            if self._cgroup_runs.has(job.key):
                continue
            found = [self._processes.find(pid) for pid in self._slurm.pids(job_id)]
            lost = [process for process in found if process is not None and process.run is None]
            if lost and self._runbook.is_open(job.key):
                self._processes.own(lost, job.key)

    def adopts(self, pid: int) -> RunKey | None:
        """The job of a new process, if that has no clock of its own."""
        key = self.run_of(pid)
        return None if key is None or self._cgroup_runs.has(key) else key

    def run_of(self, pid: int) -> RunKey | None:
        """The job that a process is in, by its cgroup."""
        job = self._jobs.get(self._slurm.job_of(pid))
        return job.key if job is not None and self._runbook.is_open(job.key) else None

    def is_here(self, key: RunKey) -> bool:
        """Whether the run is a job that has not ended."""
        job = self._jobs.get(key.run_id)
        return job is not None and job.key == key

    def grants(self, names: Mapping[str, str] = NO_NAMES) -> Iterator[Grant]:
        """The GPUs that jobs were given; `names` has UUIDs by what else GPUs are called."""
        for job in self._jobs.values():
            for gpu in dict.fromkeys(gpu_of(name, names) for name in job.gpus):
                if gpu:
                    yield Grant(job.key, gpu, since_ns=job.since_ns)

    def _populated(self, cgroups: Mapping[str, SlurmCgroup]) -> dict[str, SlurmCgroup]:
        """Without those that nobody is in: slurmstepd may die and leave them behind."""
        is_due = self._looks % SCAN_LOOKS == 0
        self._empty = {
            job_id
            for job_id in cgroups
            if (
                next(self._slurm.pids(job_id), None) is None
                if is_due or job_id not in self._jobs
                else job_id in self._empty
            )
        }
        return {job_id: job for job_id, job in cgroups.items() if job_id not in self._empty}

    def _meter(self, key: RunKey, at: Mapping[str, str], *, is_new: bool) -> None:
        """Charge the job by its cgroup's clock, where it has one."""
        if self._cgroup_runs.has(key):
            return
        try:
            meter = CgroupMeter(self._slurm.mounts(), at)
        except (OSError, Unavailable):
            return  # its processes are counted one by one
        if is_new:
            meter.last_us = 0
        self._cgroup_runs.add(key, meter)

    def _without_stale(
        self, written: Mapping[str, Allocation], cgroups: Mapping[str, object], now_ns: int
    ) -> dict[str, Allocation]:
        for job_id in self._jobs:
            if job_id in written and job_id not in cgroups:
                self._left_ns.setdefault(job_id, now_ns)
        self._left_ns = {
            job_id: left_ns
            for job_id, left_ns in self._left_ns.items()
            if job_id in written and job_id not in cgroups
        }
        return {
            job_id: allocation
            for job_id, allocation in written.items()
            if now_ns - self._left_ns.get(job_id, now_ns) < STALE_NS
        }

    def _held(self, allocation: Allocation | None, now_ns: int) -> tuple[tuple[str, ...], int]:
        if allocation is None:
            return (), now_ns
        ago_ns = round((self._clock.wall() - allocation.since) * NANOSECONDS_PER_SECOND)
        return allocation.gpus, now_ns - max(0, ago_ns)

    def _info(self, job_id: str, uid: int, allocation: Allocation | None) -> RunInfo:
        known = allocation or Allocation(job_id, uid)
        return RunInfo(
            key=RunKey(uid, job_id, job_id),
            name=known.name,
            user=known.user or self._user_name(uid),
            origin=ORIGIN,
            started=self._clock.wall(),
            scope="cgroup",
            account=known.account,
            labels=known.labels,
            nodes=known.nodes,
        )

    def _uid(self, job_id: str) -> int | None:
        """Whose job it is, by its cgroup or else its processes, of which slurmstepd is root's."""
        cgroup = self._slurm.look_at(job_id)
        if cgroup is None or cgroup.uid is not None:
            return None if cgroup is None else cgroup.uid
        uids = set()
        for pid in self._slurm.pids(job_id):
            try:
                uids.add(os.stat(os.path.join(self._procfs, str(pid))).st_uid)
            except OSError:
                continue
        return max(uids, default=None)
