"""Environment variables with the ids of jobs and runs, which the daemon and the client read."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

RUN_ID_VARIABLE = "EMISSIONS_RUN_ID"
JOB_ID_VARIABLE = "EMISSIONS_JOB_ID"
TRACKER_ID_VARIABLES = ("MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID")
"""Run ids set by experiment trackers and launchers, in order of precedence."""


class Scheduler(NamedTuple):
    """Environment variables of one scheduler; empty if it sets none."""

    name: str
    job_id: str
    tasks: tuple[str, ...] = ()
    """Index in a job array; the first variable that is set applies."""
    no_task: str = ""
    """Index value of a job outside of arrays; the variable may also be unset."""
    array: str = ""
    """Id of the array, if each task has its own job id."""
    job_name: str = ""
    account: str = ""
    required_variable: str = ""
    """Must also be set, if the name of the id variable is ambiguous."""


SCHEDULERS = (
    Scheduler(
        "slurm",
        "SLURM_JOB_ID",
        tasks=("SLURM_ARRAY_TASK_ID",),
        array="SLURM_ARRAY_JOB_ID",
        job_name="SLURM_JOB_NAME",
        account="SLURM_JOB_ACCOUNT",
    ),
    Scheduler(
        "pbs",
        "PBS_JOBID",
        tasks=("PBS_ARRAY_INDEX", "PBS_ARRAYID"),  # PBS Pro, Torque
        job_name="PBS_JOBNAME",
        account="PBS_ACCOUNT",
    ),
    Scheduler(
        "lsf",
        "LSB_JOBID",
        tasks=("LSB_JOBINDEX",),
        no_task="0",
        job_name="LSB_JOBNAME",
        account="LSB_PROJECT_NAME",
    ),
    Scheduler("flux", "FLUX_JOB_ID"),
    Scheduler("ray", "RAY_JOB_ID"),
    Scheduler("oar", "OAR_JOB_ID", job_name="OAR_JOB_NAME", account="OAR_PROJECT_NAME"),
    Scheduler(
        "sge",
        "JOB_ID",
        tasks=("SGE_TASK_ID",),
        no_task="undefined",
        job_name="JOB_NAME",
        required_variable="SGE_TASK_ID",
    ),
)
SCHEDULER_NAMES = frozenset(scheduler.name for scheduler in SCHEDULERS)
ARRAY_LABEL = "array_job"
TASK_LABEL = "array_task"


class SchedulerJob(NamedTuple):
    """A scheduler job, as described by the environment of its processes."""

    scheduler: str
    job_id: str
    name: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def job_from_environment(
    variable: Callable[[str], str], schedulers: Iterable[Scheduler] = SCHEDULERS
) -> SchedulerJob | None:
    """Detect the scheduler job of an environment; `variable` returns a value, "" if unset.

    Each array task has its own id: the scheduler's if it includes the task, like `8[3].head` of
    PBS, else the array's with the index appended, in the form that LSF's `bjobs` prints.
    """
    for scheduler in schedulers:
        job_id = variable(scheduler.job_id)
        if not job_id or (
            scheduler.required_variable and not variable(scheduler.required_variable)
        ):
            continue
        task = next(filter(None, map(variable, scheduler.tasks)), "")
        array = variable(scheduler.array) if scheduler.array else ""
        is_task = bool(array) or (not scheduler.array and task not in ("", scheduler.no_task))
        if is_task and not array and f"[{task}]" not in job_id:
            job_id = f"{job_id}[{task}]"
        labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if is_task else ()
        return SchedulerJob(
            scheduler.name,
            job_id,
            variable(scheduler.job_name) if scheduler.job_name else "",
            variable(scheduler.account) if scheduler.account else "",
            tuple(label for label in labels if label[1]),
        )
    return None
