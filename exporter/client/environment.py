"""What a launcher says of the process: which rank of how many it is, and the run's own ids."""

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from exporter.client.fork_safety import ForkAware
from exporter.client.sockets import SOCKET_VARIABLE

RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "FLUX_TASK_RANK")
LOCAL_RANK_VARIABLES = (
    *("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"),
    "FLUX_TASK_LOCAL_ID",
)
WORLD_SIZE_VARIABLES = (
    *("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    "FLUX_JOB_SIZE",
)
LOCAL_WORLD_SIZE_VARIABLES = ("LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
NODE_COUNT_VARIABLES = (
    *("GROUP_WORLD_SIZE", "SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES", "SLURM_NNODES"),
    "FLUX_JOB_NNODES",
)
RUN_ID_VARIABLES = ("EMISSIONS_RUN_ID", "MLFLOW_RUN_ID", "WANDB_RUN_ID", "TORCHELASTIC_RUN_ID")
JOB_ID_VARIABLE = "EMISSIONS_JOB_ID"
SCHEDULERS = (
    ("SLURM_JOB_ID", (), ""),
    ("PBS_JOBID", ("PBS_ARRAY_INDEX", "PBS_ARRAYID"), ""),
    ("LSB_JOBID", ("LSB_JOBINDEX",), "0"),
    ("FLUX_JOB_ID", (), ""),
    ("OAR_JOB_ID", (), ""),
    ("JOB_ID", ("SGE_TASK_ID",), "undefined"),
)
"""Job ids of schedulers; where array tasks share one, their index, and its value for no array."""
JOB_ID_VARIABLES = (JOB_ID_VARIABLE, *(name for name, *_ in SCHEDULERS))
SGE_JOB_ID_VARIABLE, SGE_TASK_VARIABLE = "JOB_ID", "SGE_TASK_ID"
"""Many programs use the first; only the second is proof of SGE."""
STEP_ID_VARIABLES = ("SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
"""Ids of one launch in a job, that all of its ranks share: of srun, and of mpirun of Open MPI."""
SLURM_MAX_STEP_ID = 0xFFFF_0000
"""The numbers beyond are those of Slurm for the batch script and for what is no step."""
TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
)
"""Set by torchrun; the first to `none` where it was given no id."""
RANK_MARKERS = (
    (TORCHELASTIC_RUN_ID, "RANK", "LOCAL_RANK", "MASTER_PORT"),
    ("OMPI_COMM_WORLD_RANK",),
    ("PMI_RANK",),
)
"""What a launcher gives to its ranks and has not itself, in this combination."""
TRACKED_RUN_ID_VARIABLE = "EMISSIONS_TRACKED"
"""Set by a tracker, and by `emissions-exporter run`, to the ids of the open runs around a process,
the innermost first, with commas between: a run inside those is another."""
EMPTY_IDS = ("", "none")
MAX_WRAPPER_PROCESSES = 8


class LaunchContext(NamedTuple):
    """One process of a launch."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    nodes: int = 1
    run_id: str = ""
    """Common to all ranks; "": the daemon is to make one."""
    job_id: str = ""


def detect_launch(environment: Mapping[str, str], name: str) -> LaunchContext:
    """What the environment says. `name` is that of the run, the same in all ranks."""
    world = _first_number(environment, WORLD_SIZE_VARIABLES, 1)
    local_world = _first_number(environment, LOCAL_WORLD_SIZE_VARIABLES, 0)
    nodes = _first_number(environment, NODE_COUNT_VARIABLES, 0) or (
        -(-world // local_world) if local_world else 1
    )
    run_id = explicit_run_id(environment)
    if not run_id and world > 1:
        run_id = _derive_run_id(environment, name, nodes)
    return LaunchContext(
        _first_number(environment, RANK_VARIABLES, 0),
        _first_number(environment, LOCAL_RANK_VARIABLES, 0),
        world,
        nodes,
        run_id,
        detect_job_id(environment),
    )


def is_restart(environment: Mapping[str, str], launch: LaunchContext) -> bool | None:
    """Whether this is a restart of a launch whose id the job's next launch may find as well.

    None where that finds another one.
    """
    is_given = launch.world_size == 1 or explicit_run_id(environment)
    if is_given or launch.nodes == 1 or not _needs_rendezvous(environment):
        return None
    return _first_number(environment, (TORCHELASTIC_RESTART_COUNT,), 0) > 0


def detect_job_id(environment: Mapping[str, str]) -> str:
    """The id of the job as the daemon writes it, with the index of a task; "" for none."""
    if environment.get(JOB_ID_VARIABLE, "") not in EMPTY_IDS:
        return environment[JOB_ID_VARIABLE]
    for name, tasks, no_task in SCHEDULERS:
        job_id = environment.get(name, "")
        if job_id in EMPTY_IDS or (
            name == SGE_JOB_ID_VARIABLE and not environment.get(SGE_TASK_VARIABLE)
        ):
            continue
        task = next((environment[each] for each in tasks if environment.get(each)), "")
        is_told_apart = task in ("", no_task) or f"[{task}]" in job_id
        return job_id if is_told_apart else f"{job_id}[{task}]"
    return ""


def explicit_run_id(environment: Mapping[str, str]) -> str:
    """The run id that somebody outside of this program gave; "" for none."""
    for key in RUN_ID_VARIABLES:
        value = environment.get(key, "")
        if value not in EMPTY_IDS and not is_tracked(environment, value):
            return value
    return ""


def is_tracked(environment: Mapping[str, str], run_id: str) -> bool:
    """Whether a tracker, or `emissions-exporter run`, began the run with this id around us."""
    return f",{run_id}," in f",{environment.get(TRACKED_RUN_ID_VARIABLE, '')},"


def tracked(environment: Mapping[str, str], run_id: str) -> str:
    """The value of `TRACKED` inside a run that is begun in this environment."""
    return ",".join(filter(None, (run_id, environment.get(TRACKED_RUN_ID_VARIABLE, ""))))


def _first_number(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = environment.get(name, "")
        if value.isascii() and value.isdecimal():
            return int(value)
    return default


def _derive_run_id(environment: Mapping[str, str], name: str, nodes: int) -> str:
    """An id that every rank finds by itself, and other launches do not.

    Ranks of a step, or of one mpirun, have its id in common. Where there is none, or where torchrun
    began them, of which one step may run several: their meeting point, and on a single node their
    launcher. Without a job of a scheduler those and the day have to do. Two schedulers may give the
    same number to a job.
    """
    scheduler = next((name for name, *_ in SCHEDULERS if environment.get(name)), "")
    job_id = detect_job_id(environment)
    facts = [scheduler, job_id, *(_step_id(environment, each) for each in STEP_ID_VARIABLES)]
    if _needs_rendezvous(environment):
        facts.append(environment.get("MASTER_PORT", ""))
        if nodes == 1:
            facts += _launcher_process(environment)
        else:
            facts.append(environment.get("MASTER_ADDR", ""))
            facts.append("" if job_id else time.strftime("%Y-%m-%d", time.gmtime()))
    import hashlib

    digest = hashlib.sha256("\0".join([name, *facts]).encode("utf-8", "replace")).hexdigest()[:12]
    return f"{name}-{digest}" if name else digest


def _needs_rendezvous(environment: Mapping[str, str]) -> bool:
    is_step = any(_step_id(environment, each) for each in STEP_ID_VARIABLES)
    return TORCHELASTIC_RUN_ID in environment or not is_step


def _step_id(environment: Mapping[str, str], name: str) -> str:
    """The id of a launch; "" for the numbers that Slurm has for what is no step of srun."""
    value = environment.get(name, "")
    if name != "SLURM_STEP_ID":
        return value
    return value if value.isascii() and value.isdecimal() and int(value) < SLURM_MAX_STEP_ID else ""


def _launcher_process(environment: Mapping[str, str]) -> list[str]:
    """The process that began all ranks of this node: the nearest one that is no rank itself.

    A rank may be wrapped in a shell of its own, which has the same environment.
    """
    names = next((names for names in RANK_MARKERS if environment.get(names[0])), ())
    marks = {f"{name}={environment.get(name, '')}".encode("utf-8", "replace") for name in names}
    pid = os.getppid()
    for _ in range(MAX_WRAPPER_PROCESSES if marks else 0):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_wrapper = marks <= set(file.read().split(b"\0"))
            parent = int(_stat_fields(pid)[1])
        except (OSError, IndexError, ValueError):
            break
        if not is_wrapper or parent < 1:
            break
        pid = parent
    return [str(pid), _start_ticks(pid)]


def _start_ticks(pid: int) -> str:
    """When a process began, in clock ticks since boot: field 22 of its stat, proc_pid_stat(5)."""
    try:
        return _stat_fields(pid)[19].decode()
    except (OSError, IndexError):
        return ""


def _stat_fields(pid: int) -> list[bytes]:
    """Fields of proc_pid_stat(5) from the third on, its state."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


LIBRARIES = (
    *("torch", "tensorflow", "jax", "keras", "transformers", "lightning", "sklearn", "xgboost"),
    *("lightgbm", "datasets", "accelerate", "deepspeed", "numpy", "scipy", "pandas"),
)
MAX_LABEL_BYTES = 512
"""Labels of a run have 2,048 bytes in all."""


def software() -> str:
    """Python, and those of the known libraries that are imported: `Python 3.11.7, torch 2.9.1`.

    `track("bert", labels={"software": software()})` puts it into every appendix.
    """
    versions = [
        f"{name} {version}"
        for name in LIBRARIES
        if isinstance(version := getattr(sys.modules.get(name), "__version__", None), str)
    ]
    said = ", ".join((f"Python {sys.version.split()[0]}", *versions))
    return said.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


RUN_ID_VARIABLE, OUR_JOB_ID_VARIABLE = RUN_ID_VARIABLES[0], JOB_ID_VARIABLES[0]
PROPAGATED_VARIABLES = (
    RUN_ID_VARIABLE,
    OUR_JOB_ID_VARIABLE,
    TRACKED_RUN_ID_VARIABLE,
    SOCKET_VARIABLE,
)


class EnvironmentPropagation(ForkAware):
    """The ids of the innermost run stand there; when the last has ended, what stood there first.

    Runs may end in any order: those of threads do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open: dict[object, Mapping[str, str]] = {}
        self._outside: dict[str, str] = {}

    def add(self, owner: object, run_id: str, job_id: str, socket: str) -> None:
        """Announce the run of `owner`; "" says nothing of that kind."""
        with self._lock:
            around = tracked(os.environ, run_id)
            ids = {
                RUN_ID_VARIABLE: run_id,
                TRACKED_RUN_ID_VARIABLE: around,
                OUR_JOB_ID_VARIABLE: job_id,
                SOCKET_VARIABLE: socket,
            }
            if not self._open:
                self._outside = {
                    name: os.environ[name] for name in PROPAGATED_VARIABLES if name in os.environ
                }
            self._open[owner] = {name: value for name, value in ids.items() if value}
            self._write()

    def drop(self, owner: object) -> None:
        """The run of `owner` is over."""
        with self._lock:
            if self._open.pop(owner, None) is not None:
                self._write()

    def reset_after_fork(self) -> None:
        """In a forked child: another thread may have had the lock."""
        self._lock = threading.Lock()

    def _write(self) -> None:
        innermost = next(reversed(self._open.values()), {})
        wanted = {**self._outside, **innermost}
        for name in PROPAGATED_VARIABLES:
            if name in wanted:
                os.environ[name] = wanted[name]
            else:
                os.environ.pop(name, None)
