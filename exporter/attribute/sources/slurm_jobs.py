"""Slurm jobs as runs: from cgroups, and from the files that the prolog writes."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import NamedTuple

from exporter.attribute.identity import sanitize_labels
from exporter.attribute.run_registry import OTHER_RUN, RunRegistry
from exporter.attribute.sources.cgroups import CgroupMeter, RunCgroups
from exporter.attribute.sources.gpu_holdings import GpuGrant, resolve_gpu_id
from exporter.attribute.sources.job_files import JobAllocation, JobFiles
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.slurm_cgroups import SlurmCgroup, SlurmCgroups
from exporter.clock import UNKNOWN_BOOT, Clock, read_boot_id
from exporter.errors import Unavailable
from exporter.model.runs import SLURM, RunInfo, RunKey
from exporter.model.workload import CollectorState
from exporter.units import NANOSECONDS_PER_SECOND

NO_ALIASES: Mapping[str, str] = MappingProxyType({})
SCAN_INTERVAL_TICKS = 5
"""Ticks between searches for processes of a job that its known processes did not start."""
STALE_NS = 600 * NANOSECONDS_PER_SECOND
"""A job file whose epilog did not run expires this long after the job's last process exited, or, if
no process was ever seen, after the job's time limit."""
UNSEEN_NS = 60 * NANOSECONDS_PER_SECOND
"""A job with a file but without a cgroup or process is reported after this time."""
JOB_LABEL = "slurm_job"
"""Label with the job id, for a run named by its SLUID because the id became known later."""
MAX_LISTED_JOBS = 8
ROOT_UID = 0


class _OpenJob(NamedTuple):
    """A job that is present on this node."""

    key: RunKey
    uid: int
    gpus: tuple[str, ...] = ()
    since_ns: int = 0
    """Start of its holdings, CLOCK_BOOTTIME."""
    is_written: bool = False
    """Whether its run has the content of the prolog's file."""


class SlurmJobs:
    """Opens the runs of Slurm jobs and finds their processes and GPUs."""

    def __init__(
        self,
        *,
        procfs: str,
        allocations: JobFiles,
        run_registry: RunRegistry,
        processes: ProcessTable,
        cgroup_runs: RunCgroups,
        clock: Clock,
        user_name: Callable[[int], str],
        read_environments: bool = True,
    ) -> None:
        self._procfs = procfs
        self._boot_id = read_boot_id(procfs, clock)
        self._slurm = SlurmCgroups(procfs, read_environments=read_environments)
        self._allocations = allocations
        self._run_registry = run_registry
        self._processes = processes
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._user_name = user_name
        self._jobs: dict[str, _OpenJob] = {}
        self._keys: set[RunKey] = set()
        """The runs of these jobs."""
        self._left_ns: dict[str, int] = {
            run.key.job_id: clock.boottime_ns()
            for run in run_registry.running()
            if run.origin == SLURM and cgroup_runs.had_used_cpu(run.key)
        }
        """When a process was last seen, for each job with a file that had one."""
        self._empty: set[str] = set()
        """Jobs whose cgroup is empty."""
        self._unseen: tuple[str, ...] = ()
        """Jobs with a file of which no cgroup or process was ever seen."""
        self._looks = 0

    def collect(self) -> None:
        """Open the runs of new jobs; call it before the process table is refreshed."""
        written = self._of_this_boot(self._allocations.collect())
        sluids = {job.sluid: job_id for job_id, job in written.items() if job.sluid}
        cgroups = self._populated(self._slurm.collect(sluids))
        now_ns = self._clock.boottime_ns()
        seen = {**cgroups, **dict.fromkeys(self._with_processes(written.keys() - cgroups.keys()))}
        written = self._without_stale(written, seen, now_ns)
        written = self._without_overdue(written, seen)
        known, self._jobs = self._jobs, {}
        for job_id in (*cgroups, *(written.keys() - cgroups.keys())):
            allocation = written.get(job_id)
            sluid = self._sluid(job_id, allocation)
            job = known.get(job_id) or known.get(sluid)
            is_changed = allocation is not None and (
                job is None or not job.is_written or allocation.gpus != job.gpus
            )
            if job is None or is_changed or job_id not in known:
                uid = allocation.uid if allocation else job.uid if job else self._uid(job_id)
                if uid is None:
                    continue
                key = self._run_registry.open(self._info(job_id, sluid, uid, allocation)).key
                if job is None or is_changed:
                    held = self._held(allocation, now_ns)
                    job = _OpenJob(key, uid, *held, allocation is not None)
            self._jobs[job_id] = job
            if job_id in cgroups and job.key != OTHER_RUN and self._run_registry.is_open(job.key):
                self._meter(job.key, cgroups[job_id].at, is_new=self._looks > 0)
        self._unseen = tuple(
            job_id
            for job_id, job in self._jobs.items()
            if job.is_written
            and job_id not in cgroups
            and job_id not in self._left_ns
            and now_ns - job.since_ns >= UNSEEN_NS
        )
        self._keys = {job.key for job in self._jobs.values()}
        self._looks += 1

    def assign_processes(self) -> None:
        """Assign processes without a run to their jobs; call it after the process table refresh."""
        if self._looks % SCAN_INTERVAL_TICKS != 1:
            return
        for job_id, job in self._jobs.items():
            if self._cgroup_runs.has(job.key):
                continue
            found = [self._processes.find(pid) for pid in self._slurm.pids(job_id)]
            unassigned = [
                process for process in found if process is not None and process.run is None
            ]
            if unassigned and self._run_registry.is_open(job.key):
                self._processes.assign(unassigned, job.key)

    def run_of_new_process(self, pid: int) -> RunKey | None:
        """The job of a new process, unless the job is metered by its cgroup."""
        key = self.run_of(pid)
        return None if key is None or self._cgroup_runs.has(key) else key

    def run_of(self, pid: int) -> RunKey | None:
        """The job that contains a process, by its cgroup."""
        job = self._jobs.get(self._slurm.job_of(pid))
        return job.key if job is not None and self._run_registry.is_open(job.key) else None

    def is_active(self, key: RunKey) -> bool:
        """Whether the run is a job that has not ended."""
        return key in self._keys

    def states(self) -> tuple[CollectorState, ...]:
        """Collector state of the last tick; none on a node without Slurm."""
        reason = self._allocations.why or self._slurm.why
        is_ok = not reason
        nameless = sorted(job_id for job_id in self._jobs if self._slurm.lacks_job_id(job_id))
        if is_ok and nameless:
            is_ok = False
            reason = (
                f"the job ids of Slurm's {', '.join(nameless[:MAX_LISTED_JOBS])} are not known, so "
                "their runs have these SLUIDs as ids; set deploy/slurm/prolog.sh as Prolog in "
                "slurm.conf, or make all processes visible to the daemon (hidepid, hostPID)"
            )
        if is_ok and self._unseen:
            shown = ", ".join(sorted(self._unseen)[:MAX_LISTED_JOBS])
            more = len(self._unseen) - MAX_LISTED_JOBS
            reason = (
                f"has no cgroup and no visible process: job {shown}"
                f"{f' and {more} more' if more > 0 else ''}; its energy is part of other, and its "
                "0 J is not a measurement; see Without cgroups in deploy/slurm/README.md"
            )
        is_slurm = self._slurm.has_jobs_root() or bool(self._jobs) or bool(reason)
        return (CollectorState("jobs", is_ok, 0.0, reason),) if is_slurm else ()

    def grants(self, names: Mapping[str, str] = NO_ALIASES) -> Iterator[GpuGrant]:
        """GPUs allocated to jobs; `names` maps other names of GPUs to UUIDs."""
        for job in self._jobs.values():
            for gpu in dict.fromkeys(resolve_gpu_id(name, names) for name in job.gpus):
                if gpu:
                    yield GpuGrant(job.key, gpu, since_ns=job.since_ns)

    def _populated(self, cgroups: Mapping[str, SlurmCgroup]) -> dict[str, SlurmCgroup]:
        """Filter out empty cgroups: slurmstepd may die and leave them behind."""
        is_due = self._looks % SCAN_INTERVAL_TICKS == 0
        self._empty = {
            job_id
            for job_id in cgroups
            if (
                self._slurm.is_empty(job_id)
                if is_due or job_id not in self._jobs
                else job_id in self._empty
            )
        }
        return {job_id: job for job_id, job in cgroups.items() if job_id not in self._empty}

    def _meter(self, key: RunKey, at: Mapping[str, str], *, is_new: bool) -> None:
        """Meter the job by its cgroup, if that has CPU accounting."""
        if self._cgroup_runs.has(key):
            return
        try:
            meter = CgroupMeter(self._slurm.mounts(), at)
        except (OSError, Unavailable):
            return  # its processes are counted individually
        if is_new:
            meter.last_us = 0
        self._cgroup_runs.add(key, meter)

    def _of_this_boot(self, written: Mapping[str, JobAllocation]) -> Mapping[str, JobAllocation]:
        """Filter out jobs of an earlier boot, which ended without an epilog."""
        return {
            job_id: allocation
            for job_id, allocation in written.items()
            if allocation.boot_id in ("", self._boot_id) or self._boot_id.startswith(UNKNOWN_BOOT)
        }

    def _with_processes(self, job_ids: AbstractSet[str]) -> list[str]:
        """Jobs with a known process, in the job's run or any run inside it."""
        jobs = [(job_id, job.key) for job_id, job in self._jobs.items() if job_id in job_ids]
        if not jobs:
            return []
        runs = {process.run for process in self._processes.owned()}
        is_within = self._run_registry.is_within
        return [
            j for j, key in jobs if any(run is not None and is_within(run, key) for run in runs)
        ]

    def _without_stale(
        self, written: Mapping[str, JobAllocation], seen: Mapping[str, object], now_ns: int
    ) -> dict[str, JobAllocation]:
        """Filter out jobs whose processes have all been gone for `STALE_NS`.

        A job without any process so far is kept: Slurm may use no cgroups, or have no step yet.
        """
        self._left_ns = {
            job_id: now_ns if job_id in seen else self._left_ns[job_id]
            for job_id in written
            if job_id in seen or job_id in self._left_ns
        }
        return {
            job_id: allocation
            for job_id, allocation in written.items()
            if now_ns - self._left_ns.get(job_id, now_ns) < STALE_NS
        }

    def _without_overdue(
        self, written: Mapping[str, JobAllocation], seen: Mapping[str, object]
    ) -> dict[str, JobAllocation]:
        """Filter out jobs past their time limit without a process."""
        latest = self._clock.wall() - STALE_NS / NANOSECONDS_PER_SECOND
        return {
            job_id: allocation
            for job_id, allocation in written.items()
            if job_id in seen or not allocation.end_time or allocation.end_time > latest
        }

    def _sluid(self, job_id: str, allocation: JobAllocation | None) -> str:
        cgroup = self._slurm.get_job(job_id)
        if cgroup is not None and cgroup.sluid:
            return cgroup.sluid
        return allocation.sluid if allocation is not None else ""

    def _held(self, allocation: JobAllocation | None, now_ns: int) -> tuple[tuple[str, ...], int]:
        if allocation is None:
            return (), now_ns
        ago_ns = round((self._clock.wall() - allocation.since) * NANOSECONDS_PER_SECOND)
        return allocation.gpus, now_ns - max(0, ago_ns)

    def _info(self, job_id: str, sluid: str, uid: int, allocation: JobAllocation | None) -> RunInfo:
        """The run of a job; a run opened under its SLUID keeps that as id until it ends."""
        known = allocation or JobAllocation(job_id, uid)
        key, labels = RunKey(uid, job_id, job_id), known.labels
        by_sluid = RunKey(uid, sluid, sluid)
        if sluid and key != by_sluid and self._run_registry.is_open(by_sluid):
            key, labels = by_sluid, sanitize_labels((*labels, (JOB_LABEL, job_id)))
        return RunInfo(
            key=key,
            name=known.name,
            user=known.user or self._user_name(uid),
            origin=SLURM,
            started=self._clock.wall(),
            scope="cgroup",
            account=known.account,
            labels=labels,
            nodes=known.nodes,
        )

    def _uid(self, job_id: str) -> int | None:
        """The job's user, by its cgroup, else by its processes; slurmstepd runs as root.

        None until a step of the job has started: before that all processes are root's.
        """
        cgroup = self._slurm.get_job(job_id)
        if cgroup is None or cgroup.uid is not None:
            return None if cgroup is None else cgroup.uid
        uids = self._owners_of(self._slurm.pids(job_id))
        if max(uids, default=ROOT_UID) != ROOT_UID:
            return max(uids)
        return min(self._owners_of(self._slurm.task_pids(job_id)), default=None)

    def _owners_of(self, pids: Iterable[int]) -> set[int]:
        uids = set()
        for pid in pids:
            try:
                uids.add(os.stat(os.path.join(self._procfs, str(pid))).st_uid)
            except OSError:
                continue
        return uids
