"""What a launcher says of the process: which rank of how many it is, and the run's own ids."""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "FLUX_TASK_RANK")
LOCAL_RANKS = (
    *("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
    "FLUX_TASK_LOCAL_ID",
)
WORLDS = (
    *("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    "FLUX_JOB_SIZE",
)
LOCAL_WORLDS = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
NODES = (
    *("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"),
    "FLUX_JOB_NNODES",
)
RUN_IDS = ("EMISSIONS_RUN_ID", "MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID")
JOB_ID = "EMISSIONS_JOB_ID"
JOBS = (
    ("SLURM_JOB_ID", (), ""),
    ("PBS_JOBID", ("PBS_ARRAY_INDEX", "PBS_ARRAYID"), ""),
    ("LSB_JOBID", ("LSB_JOBINDEX",), "0"),
    ("FLUX_JOB_ID", (), ""),
    ("OAR_JOB_ID", (), ""),
    ("JOB_ID", ("SGE_TASK_ID",), "undefined"),
)
"""Job ids of schedulers; where array tasks share one, their index, and its value for no array."""
JOB_IDS = (JOB_ID, *(name for name, *_ in JOBS))
SGE_JOB_ID, SGE_TASK = "JOB_ID", "SGE_TASK_ID"
"""Many programs use the first; only the second is proof of SGE."""
LAUNCHES = ("SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
"""Ids of one launch in a job, that all of its ranks share: of srun, and of mpirun of Open MPI."""
MOST_STEP = 0xFFFF_0000
"""The numbers beyond are those of Slurm for the batch script and for what is no step."""
ELASTIC, RESTARTS = "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"
"""Set by torchrun; the first to `none` where it was given no id."""
MARKS = (
    (ELASTIC, "RANK", "LOCAL_RANK", "MASTER_PORT"),
    ("OMPI_COMM_WORLD_RANK",),
    ("PMI_RANK",),
)
"""What a launcher gives to its ranks and has not itself, in this combination."""
TRACKED = "EMISSIONS_TRACKED"
"""Set by a tracker, and by `emissions-exporter run`, to the ids of the open runs around a process,
the innermost first, with commas between: a run inside those is another."""
NO_ID = ("", "none")
MOST_WRAPPERS = 8


class Launch(NamedTuple):
    """One process of a launch."""

    rank: int = 0
    local_rank: int = 0
    world: int = 1
    nodes: int = 1
    run_id: str = ""
    """Common to all ranks; "": the daemon is to make one."""
    job_id: str = ""


def launch_of(environment: Mapping[str, str], name: str) -> Launch:
    """What the environment says. `name` is that of the run, the same in all ranks."""
    world = _number(environment, WORLDS, 1)
    local_world = _number(environment, LOCAL_WORLDS, 0)
    nodes = _number(environment, NODES, 0) or (-(-world // local_world) if local_world else 1)
    run_id = given_id(environment)
    if not run_id and world > 1:
        run_id = _common_id(environment, name, nodes)
    return Launch(
        _number(environment, RANKS, 0),
        _number(environment, LOCAL_RANKS, 0),
        world,
        nodes,
        run_id,
        job_id_of(environment),
    )


def repeats(environment: Mapping[str, str], launch: Launch) -> bool | None:
    """Whether this is a restart of a launch whose id the job's next launch may find as well.

    None where that finds another one.
    """
    is_given = launch.world == 1 or given_id(environment)
    if is_given or launch.nodes == 1 or not _needs_meeting_point(environment):
        return None
    return _number(environment, (RESTARTS,), 0) > 0


def job_id_of(environment: Mapping[str, str]) -> str:
    """The id of the job as the daemon writes it, with the index of a task; "" for none."""
    if environment.get(JOB_ID, "") not in NO_ID:
        return environment[JOB_ID]
    for name, tasks, no_task in JOBS:
        job_id = environment.get(name, "")
        if job_id in NO_ID or (name == SGE_JOB_ID and not environment.get(SGE_TASK)):
            continue
        task = next((environment[each] for each in tasks if environment.get(each)), "")
        is_told_apart = task in ("", no_task) or f"[{task}]" in job_id
        return job_id if is_told_apart else f"{job_id}[{task}]"
    return ""


def given_id(environment: Mapping[str, str]) -> str:
    """The run id that somebody outside of this program gave; "" for none."""
    for key in RUN_IDS:
        value = environment.get(key, "")
        if value not in NO_ID and not is_tracked(environment, value):
            return value
    return ""


def is_tracked(environment: Mapping[str, str], run_id: str) -> bool:
    """Whether a tracker, or `emissions-exporter run`, began the run with this id around us."""
    return f",{run_id}," in f",{environment.get(TRACKED, '')},"


def tracked(environment: Mapping[str, str], run_id: str) -> str:
    """The value of `TRACKED` inside a run that is begun in this environment."""
    return ",".join(filter(None, (run_id, environment.get(TRACKED, ""))))


def _number(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = environment.get(name, "")
        if value.isascii() and value.isdecimal():
            return int(value)
    return default


def _common_id(environment: Mapping[str, str], name: str, nodes: int) -> str:
    """An id that every rank finds by itself, and other launches do not.

    Ranks of a step, or of one mpirun, have its id in common. Where there is none, or where torchrun
    began them, of which one step may run several: their meeting point, and on a single node their
    launcher. Without a job of a scheduler those and the day have to do. Two schedulers may give the
    same number to a job.
    """
    scheduler = next((name for name, *_ in JOBS if environment.get(name)), "")
    job_id = job_id_of(environment)
    facts = [scheduler, job_id, *(_launch_id(environment, each) for each in LAUNCHES)]
    if _needs_meeting_point(environment):
        facts.append(environment.get("MASTER_PORT", ""))
        if nodes == 1:
            facts += _launcher(environment)
        else:
            facts.append(environment.get("MASTER_ADDR", ""))
            facts.append("" if job_id else time.strftime("%Y-%m-%d", time.gmtime()))
    import hashlib

    digest = hashlib.sha256("\0".join([name, *facts]).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{name}-{digest}" if name else digest


def _needs_meeting_point(environment: Mapping[str, str]) -> bool:
    is_step = any(_launch_id(environment, each) for each in LAUNCHES)
    return ELASTIC in environment or not is_step


def _launch_id(environment: Mapping[str, str], name: str) -> str:
    """The id of a launch; "" for the numbers that Slurm has for what is no step of srun."""
    value = environment.get(name, "")
    if name != "SLURM_STEP_ID":
        return value
    return value if value.isascii() and value.isdecimal() and int(value) < MOST_STEP else ""


def _launcher(environment: Mapping[str, str]) -> list[str]:
    """The process that began all ranks of this node: the nearest one that is no rank itself.

    A rank may be wrapped in a shell of its own, which has the same environment.
    """
    names = next((names for names in MARKS if environment.get(names[0])), ())
    marks = {f"{name}={environment.get(name, '')}".encode("utf-8", "replace") for name in names}
    pid = os.getppid()
    for _ in range(MOST_WRAPPERS if marks else 0):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_wrapper = marks <= set(file.read().split(b"\0"))
            parent = int(_stat_fields(pid)[1])
        except (OSError, IndexError, ValueError):
            break
        if not is_wrapper or parent < 1:
            break
        pid = parent
    return [str(pid), _started(pid)]


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot: field 22 of its stat, proc_pid_stat(5)."""
    try:
        return _stat_fields(pid)[19].decode()
    except (OSError, IndexError):
        return ""


def _stat_fields(pid: int) -> list[bytes]:
    """Fields of proc_pid_stat(5) from the third on, its state."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
