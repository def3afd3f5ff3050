"""What schedulers put into the environment of their jobs, by the names that their manuals give."""

from collections.abc import Callable
from typing import NamedTuple


class Scheduler(NamedTuple):
    """Names of variables; empty where the scheduler sets none."""

    name: str
    job_id: bytes
    task: bytes = b""
    """Index in a job array."""
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
        task=b"SLURM_ARRAY_TASK_ID",
        array=b"SLURM_ARRAY_JOB_ID",
        job_name=b"SLURM_JOB_NAME",
        account=b"SLURM_JOB_ACCOUNT",
    ),
    Scheduler(
        "pbs",
        b"PBS_JOBID",
        task=b"PBS_ARRAY_INDEX",
        job_name=b"PBS_JOBNAME",
        account=b"PBS_ACCOUNT",
    ),
    Scheduler(
        "lsf",
        b"LSB_JOBID",
        task=b"LSB_JOBINDEX",
        job_name=b"LSB_JOBNAME",
        account=b"LSB_PROJECT_NAME",
    ),
    Scheduler("flux", b"FLUX_JOB_ID"),
    Scheduler("ray", b"RAY_JOB_ID"),
    Scheduler("sge", b"JOB_ID", task=b"SGE_TASK_ID", job_name=b"JOB_NAME", witness=b"SGE_TASK_ID"),
)
ARRAY_LABEL = "array_job"
TASK_LABEL = "array_task"
NO_TASK = ("", "0", "undefined")
"""How schedulers say that a job is no part of an array."""


class Job(NamedTuple):
    """A job as its own environment describes it."""

    scheduler: str
    job_id: str
    name: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def job_of(variable: Callable[[bytes], str]) -> Job | None:
    """The job that an environment belongs to; `variable` reads it, "" for what is not set."""
    for known in SCHEDULERS:
        job_id = variable(known.job_id)
        if not job_id or (known.witness and not variable(known.witness)):
            continue
        task = variable(known.task) if known.task else ""
        array = variable(known.array) if known.array else ""
        is_task = bool(array) or (not known.array and task not in NO_TASK)
        if is_task and not array and task not in job_id:
            job_id = f"{job_id}[{task}]"  # PBS has it in the id already
        labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if is_task else ()
        return Job(
            known.name,
            job_id,
            variable(known.job_name) if known.job_name else "",
            variable(known.account) if known.account else "",
            tuple(label for label in labels if label[1]),
        )
    return None
