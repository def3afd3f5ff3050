"""Which run a process says it belongs to, by its environment; and what ids may look like."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
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
    required_variable: bytes = b""
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
        required_variable=b"SGE_TASK_ID",
    ),
)
SCHEDULER_NAMES = frozenset(known.name for known in SCHEDULERS)
ARRAY_LABEL = "array_job"
TASK_LABEL = "array_task"


class SchedulerJob(NamedTuple):
    """A job as its own environment describes it."""

    scheduler: str
    job_id: str
    name: str = ""
    account: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def job_from_environment(variable: Callable[[bytes], str]) -> SchedulerJob | None:
    """The job that an environment belongs to; `variable` reads it, "" for what is not set.

    Each task of an array has an id of its own: that of the scheduler if it tells tasks apart, as
    `8[3].head` of PBS does, else the array's with the index, as `bjobs` of LSF writes it.
    """
    for known in SCHEDULERS:
        job_id = variable(known.job_id)
        if not job_id or (known.required_variable and not variable(known.required_variable)):
            continue
        task = next(filter(None, map(variable, known.tasks)), "")
        array = variable(known.array) if known.array else ""
        is_task = bool(array) or (not known.array and task not in ("", known.no_task))
        if is_task and not array and f"[{task}]" not in job_id:
            job_id = f"{job_id}[{task}]"
        labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if is_task else ()
        return SchedulerJob(
            known.name,
            job_id,
            variable(known.job_name) if known.job_name else "",
            variable(known.account) if known.account else "",
            tuple(label for label in labels if label[1]),
        )
    return None


RUN_ID_VARIABLE = b"EMISSIONS_RUN_ID"
JOB_ID_VARIABLE = b"EMISSIONS_JOB_ID"
RUN_NAME_VARIABLE = b"EMISSIONS_RUN_NAME"
LABELS_VARIABLE = b"EMISSIONS_LABELS"
TRACKER_ID_VARIABLES = (b"MLFLOW_RUN_ID", b"WANDB_RUN_ID", b"TORCHELASTIC_RUN_ID")
"""Ids that experiment trackers and launchers give to a run, best first."""

ID_MARKERS = (b"EMISSIONS_", b"_RUN_ID=", b"JOB_ID=", b"JOBID=")
"""One of them is in every environment that has an id; most have none."""

MAX_ID_BYTES = 128
MAX_LABELS = 32
MAX_LABELS_BYTES = 2048
"""Of the names and values of all labels of a run together."""
OTHER_RUN_ID = "other"
"""Reserved for the runs beyond the cap."""


class RunClaim(NamedTuple):
    """What an environment says of the run that its process belongs to."""

    run_id: str
    job_id: str = ""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    account: str = ""
    origin: str = "environment"
    """How the run is known: by itself, or by the scheduler whose job it is."""


def claim_from_environment(block: bytes, *, with_jobs: bool = True) -> RunClaim | None:
    """The claim in an environment block (`NAME=value`, NUL between), or None.

    A job id alone names the run as well; that of a scheduler counts `with_jobs` only. `none` is
    what launchers write for "no id".
    """
    if not any(mark in block for mark in ID_MARKERS):
        return None

    def variable(name: bytes) -> str:
        return sanitize(_variable(block, name))

    job = job_from_environment(variable) if with_jobs else None
    own_job_id = variable(JOB_ID_VARIABLE)
    job_id = own_job_id or (job.job_id if job is not None else "")
    own_id = variable(RUN_ID_VARIABLE) or _tracking_id(block) or own_job_id
    if not own_id and job is None:
        return None
    parts = _variable(block, LABELS_VARIABLE).split(b",", MAX_LABELS)[:MAX_LABELS]
    labels = sanitize_labels(part.split(b"=", 1) for part in parts if b"=" in part)
    name = variable(RUN_NAME_VARIABLE)
    if job is None:
        return RunClaim(own_id, job_id, name, labels)
    origin = "environment" if own_id else job.scheduler
    labels = sanitize_labels((*job.labels, *labels))
    return RunClaim(own_id or job_id, job_id, name or job.name, labels, job.account, origin)


def sanitize(text: bytes | str) -> str:
    """An id or label value fit for a label: one line of valid, printable text, bounded.

    Every control, format and unassigned character becomes a space. One that is longer than 128
    bytes is cut, and ends in a hash of the whole so that two long ids stay two.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    raw = text.encode("utf-8")
    if len(raw) <= MAX_ID_BYTES:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:12]
    return raw[: MAX_ID_BYTES - 13].decode("utf-8", "ignore") + "-" + digest


def sanitize_labels(pairs: Iterable[Sequence[bytes | str]]) -> tuple[tuple[str, str], ...]:
    """Pairs as the labels of a run, sorted, each name once; what is beyond the bounds is left out.

    The bounds are 32 labels, and 2 KiB for their names and values together.
    """
    kept: dict[str, str] = {}
    room = MAX_LABELS_BYTES
    for dirty_name, dirty_value in islice(pairs, MAX_LABELS):
        name, value = sanitize(dirty_name), sanitize(dirty_value)
        size = len(name.encode()) + len(value.encode())
        if name and name not in kept and size <= room:
            kept[name] = value
            room -= size
    return tuple(sorted(kept.items()))


def _variable(block: bytes, name: bytes) -> bytes:
    """A variable's value, as getenv(3) would find it; empty if it is not set."""
    _, _, rest = (b"\0" + block).partition(b"\0" + name + b"=")
    return rest.partition(b"\0")[0]


def _tracking_id(block: bytes) -> str:
    for name in TRACKER_ID_VARIABLES:
        value = sanitize(_variable(block, name))
        if value and value != "none":
            return value
    return ""
