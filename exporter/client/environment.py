"""Environment of a process: launcher, rank, job and run ids, and library versions.

Also propagates the ids of open runs to child processes.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from typing import NamedTuple

from exporter.client.fork_safety import ForkAware
from exporter.client.sockets import SOCKET_VARIABLE
from exporter.job_variables import (
    JOB_ID_VARIABLE,
    RUN_ID_VARIABLE,
    SCHEDULERS,
    TRACKER_ID_VARIABLES,
    job_from_environment,
)

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
RUN_ID_VARIABLES = (RUN_ID_VARIABLE, *TRACKER_ID_VARIABLES)
LAUNCH_SCHEDULERS = tuple(scheduler for scheduler in SCHEDULERS if scheduler.name != "ray")
"""Without Ray, whose job id is that of a driver, which no launch is in."""
JOB_ID_VARIABLES = (
    JOB_ID_VARIABLE,
    *(scheduler.job_id_variable for scheduler in LAUNCH_SCHEDULERS),
)
STEP_ID_VARIABLES = ("SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid")
"""Ids that all ranks of one launch in a job share: of srun, and of Open MPI's mpirun."""
MAX_DIGITS = 18
"""Python does not parse numbers of any length."""
SLURM_MAX_STEP_ID = 0xFFFF_0000
"""Slurm uses higher numbers for the batch script and for other processes outside a step."""
TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
)
"""Set by torchrun; the run id is `none` if torchrun was started without an id."""
RANK_MARKERS = (
    (TORCHELASTIC_RUN_ID, "RANK", "LOCAL_RANK", "MASTER_PORT"),
    ("OMPI_COMM_WORLD_RANK",),
    ("PMI_RANK",),
)
"""Combinations of variables that a launcher sets for its ranks but does not have itself."""
TRACKED_RUN_ID_VARIABLE = "EMISSIONS_TRACKED"
"""Comma-separated ids of the enclosing open runs, innermost first.

Set by trackers and by `emissions-exporter run`. A run started inside these gets an id of its own.
"""
EMPTY_IDS = ("", "none")
MAX_WRAPPER_PROCESSES = 8


class LaunchContext(NamedTuple):
    """Position of this process in a distributed launch, and its ids."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    nodes: int = 1
    run_id: str = ""
    """The same in all ranks; "" if the daemon is to generate it."""
    job_id: str = ""


def detect_launch(environment: Mapping[str, str], name: str) -> LaunchContext:
    """Read the launch from environment variables. `name` is the run's name, equal in all ranks."""
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
    """Whether this process restarts a launch whose derived id the job's next launch may share.

    None if the next launch derives another id.
    """
    is_given = launch.world_size == 1 or explicit_run_id(environment)
    if is_given or launch.nodes == 1 or not _needs_rendezvous(environment):
        return None
    return _first_number(environment, (TORCHELASTIC_RESTART_COUNT,), 0) > 0


def detect_job_id(environment: Mapping[str, str]) -> str:
    """Return the job id in the daemon's notation, with the array index; "" for none."""
    if environment.get(JOB_ID_VARIABLE, "") not in EMPTY_IDS:
        return environment[JOB_ID_VARIABLE]
    job = job_from_environment(lambda name: _given(environment, name), LAUNCH_SCHEDULERS)
    return "" if job is None else job.job_id


def _given(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    return "" if value in EMPTY_IDS else value


def explicit_run_id(environment: Mapping[str, str]) -> str:
    """Return the run id set from outside of this program; "" for none."""
    for key in RUN_ID_VARIABLES:
        value = environment.get(key, "")
        if value not in EMPTY_IDS and not is_tracked(environment, value):
            return value
    return ""


def is_tracked(environment: Mapping[str, str], run_id: str) -> bool:
    """Whether an enclosing tracker or `emissions-exporter run` started the run with this id."""
    return f",{run_id}," in f",{environment.get(TRACKED_RUN_ID_VARIABLE, '')},"


def tracked(environment: Mapping[str, str], run_id: str) -> str:
    """Return the value of EMISSIONS_TRACKED inside a run that is started in this environment."""
    return ",".join(filter(None, (run_id, environment.get(TRACKED_RUN_ID_VARIABLE, ""))))


def _first_number(environment: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = environment.get(name, "")
        if _is_number(value):
            return int(value)
    return default


def _derive_run_id(environment: Mapping[str, str], name: str, nodes: int) -> str:
    """Derive a run id that is equal in all ranks of a launch and different in other launches.

    Ranks of a Slurm step or of one mpirun share its id. Without such an id, or under torchrun, of
    which one step may run several, the rendezvous (MASTER_ADDR and MASTER_PORT) is used, on a
    single node with the launcher process. Without a scheduler's job, the date is added. The
    scheduler's name is part of the id, because two schedulers may use the same job id.
    """
    ids = (scheduler.job_id_variable for scheduler in LAUNCH_SCHEDULERS)
    scheduler = next((name for name in ids if environment.get(name)), "")
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
    """Return the id of a launch; "" for Slurm's special numbers outside srun steps."""
    value = environment.get(name, "")
    if name != "SLURM_STEP_ID":
        return value
    return value if _is_number(value) and int(value) < SLURM_MAX_STEP_ID else ""


def _is_number(text: str) -> bool:
    return len(text) <= MAX_DIGITS and text.isascii() and text.isdecimal()


def _launcher_process(environment: Mapping[str, str]) -> list[str]:
    """Return PID and start time of the process that launched this node's ranks.

    It is the nearest ancestor that is no rank itself. A rank may be wrapped in a shell, which has
    the same environment.
    """
    names = next((names for names in RANK_MARKERS if environment.get(names[0])), ())
    markers = {f"{name}={environment.get(name, '')}".encode("utf-8", "replace") for name in names}
    pid = os.getppid()
    for _ in range(MAX_WRAPPER_PROCESSES if markers else 0):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_wrapper = markers <= set(file.read().split(b"\0"))
            parent = int(_stat_fields(pid)[1])
        except (OSError, IndexError, ValueError):
            break
        if not is_wrapper or parent < 1:
            break
        pid = parent
    return [str(pid), _start_ticks(pid)]


def _start_ticks(pid: int) -> str:
    """Return the start time in clock ticks since boot: field 22 of stat, proc_pid_stat(5)."""
    try:
        return _stat_fields(pid)[19].decode()
    except (OSError, IndexError):
        return ""


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields of proc_pid_stat(5) from the third (state) on."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


LIBRARIES = (
    *("torch", "tensorflow", "jax", "keras", "transformers", "lightning", "sklearn", "xgboost"),
    *("lightgbm", "datasets", "accelerate", "deepspeed", "numpy", "scipy", "pandas"),
)
MAX_LABEL_BYTES = 512
"""Limit of this label; all labels of a run together have at most 2,048 bytes."""


def software() -> str:
    """Return the versions of Python and of imported ML libraries: `Python 3.11.7, torch 2.9.1`.

    `track("bert", labels={"software": software()})` adds it to the run's reports.
    """
    versions = [
        f"{name} {version}"
        for name in LIBRARIES
        if isinstance(version := getattr(sys.modules.get(name), "__version__", None), str)
    ]
    text = ", ".join((f"Python {sys.version.split()[0]}", *versions))
    return text.encode()[:MAX_LABEL_BYTES].decode(errors="ignore")


PROPAGATED_VARIABLES = (
    RUN_ID_VARIABLE,
    JOB_ID_VARIABLE,
    TRACKED_RUN_ID_VARIABLE,
    SOCKET_VARIABLE,
)


class EnvironmentPropagation(ForkAware):
    """Sets the environment variables of the innermost run, for child processes.

    When the last run has ended, the previous values are restored. Runs may end in any order, for
    example those of threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open: dict[object, Mapping[str, str]] = {}
        self._outside: dict[str, str] = {}

    def add(self, owner: object, run_id: str, job_id: str, socket: str) -> None:
        """Set the variables for the run of `owner`; variables with the value "" are not set."""
        with self._lock:
            enclosing = tracked(os.environ, run_id)
            ids = {
                RUN_ID_VARIABLE: run_id,
                TRACKED_RUN_ID_VARIABLE: enclosing,
                JOB_ID_VARIABLE: job_id,
                SOCKET_VARIABLE: socket,
            }
            if not self._open:
                self._outside = {
                    name: os.environ[name] for name in PROPAGATED_VARIABLES if name in os.environ
                }
            self._open[owner] = {name: value for name, value in ids.items() if value}
            self._write()

    def drop(self, owner: object) -> None:
        """Remove the variables of the run of `owner`."""
        with self._lock:
            if self._open.pop(owner, None) is not None:
                self._write()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: another thread may have held it."""
        self._lock = threading.Lock()

    def _write(self) -> None:
        innermost = next(reversed(self._open.values()), {})
        wanted = {**self._outside, **innermost}
        for name in PROPAGATED_VARIABLES:
            if name in wanted:
                os.environ[name] = wanted[name]
            else:
                os.environ.pop(name, None)
