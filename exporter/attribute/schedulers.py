"""What schedulers put into the environment of their jobs, by the names that their manuals give."""

from collections.abc import Callable
from typing import NamedTuple


class Scheduler(NamedTuple):
    """Names of variables; empty where the scheduler sets none."""

    name: str
    job_id: bytes
    tasks: tuple[bytes, ...] = ()
    """Index in a job array, by whichever name is set."""
    no_task: str = ""
    """The index of a job that is in no array; its variable may be unset as well."""
    array: bytes = b""
    """Id of the whole array, where each task has a job id of its own."""
    job_name: bytes = b""
    account: bytes = b""
    witness: bytes = b""
    """Must be set as well, where the name of the id alone says too little."""


SCHEDULERS = (
    Scheduler(
        "slurm",
        b"SLURM_JOB_ID",
        tasks=(b"SLURM_ARRAY_TASK_ID",),
        array=b"SLURM_ARRAY_JOB_ID",
        job_name=b"SLURM_JOB_NAME",
        account=b"SLURM_JOB_ACCOUNT",
    ),
    Scheduler(
        "pbs",
        b"PBS_JOBID",
        tasks=(b"PBS_ARRAY_INDEX", b"PBS_ARRAYID"),  # PBS Pro, Torque
        job_name=b"PBS_JOBNAME",
        account=b"PBS_ACCOUNT",
    ),
    Scheduler(
        "lsf",
        b"LSB_JOBID",
        tasks=(b"LSB_JOBINDEX",),
        no_task="0",
        job_name=b"LSB_JOBNAME",
        account=b"LSB_PROJECT_NAME",
    ),
    Scheduler("flux", b"FLUX_JOB_ID"),
    Scheduler("ray", b"RAY_JOB_ID"),
    Scheduler("oar", b"OAR_JOB_ID", job_name=b"OAR_JOB_NAME", account=b"OAR_PROJECT_NAME"),
    Scheduler(
        "sge",
        b"JOB_ID",
        tasks=(b"SGE_TASK_ID",),
        no_task="undefined",
        job_name=b"JOB_NAME",
        witness=b"SGE_TASK_ID",
    ),
)
SCHEDULER_NAMES = frozenset(known.name for known in SCHEDULERS)
ARRAY_LABEL = "array_job"
TASK_LABEL = "array_task"


class Job(NamedTuple):
    """A job as its own environment describes it."""

    scheduler: str
    job_id: str
    name: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def job_of(variable: Callable[[bytes], str]) -> Job | None:
    """The job that an environment belongs to; `variable` reads it, "" for what is not set.

    Each task of an array has an id of its own: that of the scheduler if it tells tasks apart, as
    `8[3].head` of PBS does, else the array's with the index, as `bjobs` of LSF writes it.
    """
    for known in SCHEDULERS:
        job_id = variable(known.job_id)
        if not job_id or (known.witness and not variable(known.witness)):
            continue
        task = next(filter(None, map(variable, known.tasks)), "")
        array = variable(known.array) if known.array else ""
        is_task = bool(array) or (not known.array and task not in ("", known.no_task))
        if is_task and not array and f"[{task}]" not in job_id:
            job_id = f"{job_id}[{task}]"
        labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if is_task else ()
        return Job(
            known.name,
            job_id,
            variable(known.job_name) if known.job_name else "",
            variable(known.account) if known.account else "",
            tuple(label for label in labels if label[1]),
        )
    return None
