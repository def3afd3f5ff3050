"""Environment variables that identify runs and scheduler jobs, for the daemon and the client."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

RUN_ID_VARIABLE = "EMISSIONS_RUN_ID"
JOB_ID_VARIABLE = "EMISSIONS_JOB_ID"
TRACKER_ID_VARIABLES = ("MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID")
"""Run ids set by experiment trackers and launchers, in order of precedence."""


class Scheduler(NamedTuple):
    """A scheduler and its environment variables; "" if it sets none of a kind."""

    name: str
    job_id_variable: str
    task_variables: tuple[str, ...] = ()
    """Index in a job array; the first variable that is set applies."""
    no_task: str = ""
    """Index value of a job outside of arrays; the variable may also be unset."""
    array_id_variable: str = ""
    """Id of the array, if each task has its own job id."""
    job_name_variable: str = ""
    account_variable: str = ""
    required_variable: str = ""
    """Must also be set, if the name of the id variable is ambiguous."""


SCHEDULERS = (
    Scheduler(
        "slurm",
        "SLURM_JOB_ID",
        task_variables=("SLURM_ARRAY_TASK_ID",),
        array_id_variable="SLURM_ARRAY_JOB_ID",
        job_name_variable="SLURM_JOB_NAME",
        account_variable="SLURM_JOB_ACCOUNT",
    ),
    Scheduler(
        "pbs",
        "PBS_JOBID",
        task_variables=("PBS_ARRAY_INDEX", "PBS_ARRAYID"),  # PBS Pro, Torque
        job_name_variable="PBS_JOBNAME",
        account_variable="PBS_ACCOUNT",
    ),
    Scheduler(
        "lsf",
        "LSB_JOBID",
        task_variables=("LSB_JOBINDEX",),
        no_task="0",
        job_name_variable="LSB_JOBNAME",
        account_variable="LSB_PROJECT_NAME",
    ),
    Scheduler("flux", "FLUX_JOB_ID"),
    Scheduler("ray", "RAY_JOB_ID"),
    Scheduler(
        "oar", "OAR_JOB_ID", job_name_variable="OAR_JOB_NAME", account_variable="OAR_PROJECT_NAME"
    ),
    Scheduler(
        "sge",
        "JOB_ID",
        task_variables=("SGE_TASK_ID",),
        no_task="undefined",
        job_name_variable="JOB_NAME",
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

    Each array task has its own id: the scheduler's if each task is a job (Slurm) or the id includes
    the task, like `8[3].head` of PBS. Else it is the array's with the index appended, as LSF's
    `bjobs` prints it.
    """
    for scheduler in schedulers:
        job_id = variable(scheduler.job_id_variable)
        required = scheduler.required_variable
        if not job_id or (required and not variable(required)):
            continue
        task = next(filter(None, map(variable, scheduler.task_variables)), "")
        array_id = variable(scheduler.array_id_variable) if scheduler.array_id_variable else ""
        if scheduler.array_id_variable:
            is_task = bool(array_id)
        else:
            is_task = task not in ("", scheduler.no_task)
            if is_task and f"[{task}]" not in job_id:
                job_id = f"{job_id}[{task}]"
        labels = ((ARRAY_LABEL, array_id), (TASK_LABEL, task)) if is_task else ()
        return SchedulerJob(
            scheduler.name,
            job_id,
            variable(scheduler.job_name_variable) if scheduler.job_name_variable else "",
            variable(scheduler.account_variable) if scheduler.account_variable else "",
            tuple(label for label in labels if label[1]),
        )
    return None
