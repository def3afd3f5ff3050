"""What a launcher says of the process: which rank of how many it is, and the run's own ids."""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
WORLDS = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
NODES = ("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
RUN_IDS = ("EMISSIONS_RUN_ID", "MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID")
JOB_IDS = ("EMISSIONS_JOB_ID", "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")
TRACKED = "EMISSIONS_TRACKED"
"""Set by a tracker to the id of its run: a run inside that one is another."""
NO_ID = ("", "none")


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
    local_world = _number(environment, ("LOCAL_WORLD_SIZE",), 0)
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
        next((environment[key] for key in JOB_IDS if environment.get(key, "") not in NO_ID), ""),
    )


def given_id(environment: Mapping[str, str]) -> str:
    """The run id that somebody outside of this program gave; "" for none."""
    for key in RUN_IDS:
        value = environment.get(key, "")
        if value not in (*NO_ID, environment.get(TRACKED)):
            return value
    return ""


def _number(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = environment.get(name, "")
        if value.isascii() and value.isdecimal():
            return int(value)
    return default


def _common_id(environment: Mapping[str, str], name: str, nodes: int) -> str:
    """An id that every rank finds by itself, and no other launch does.

    On one node the ranks have one parent; on several it takes a job of a scheduler. Without one,
    the meeting point and the day have to do.
    """
    job = [environment.get(key, "") for key in ("SLURM_JOB_ID", "SLURM_STEP_ID", *JOB_IDS[2:])]
    if any(job):
        facts = job
    elif nodes == 1:
        facts = [str(os.getppid()), _started(os.getppid())]
    else:
        facts = [environment.get(key, "") for key in ("MASTER_ADDR", "MASTER_PORT")]
        facts.append(time.strftime("%Y-%m-%d", time.gmtime()))
    import hashlib

    digest = hashlib.sha256("\0".join([name, *facts]).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{name}-{digest}" if name else digest


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot: field 22 of its stat, proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
