"""Run and job ids from process environments, and the sanitizing of ids and labels."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from exporter.model.runs import RunInfo


class Scheduler(NamedTuple):
    """Environment variables of one scheduler; empty if it sets none."""

    name: str
    job_id: bytes
    tasks: tuple[bytes, ...] = ()
    """Index in a job array; the first variable that is set applies."""
    no_task: str = ""
    """Index value of a job outside of arrays; the variable may also be unset."""
    array: bytes = b""
    """Id of the array, if each task has its own job id."""
    job_name: bytes = b""
    account: bytes = b""
    required_variable: bytes = b""
    """Must also be set, if the name of the id variable is ambiguous."""


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


def job_from_environment(variable: Callable[[bytes], str]) -> SchedulerJob | None:
    """Detect the scheduler job of an environment; `variable` returns a value, "" if unset.

    Each array task has its own id: the scheduler's if it includes the task, like `8[3].head` of
    PBS, else the array's with the index appended, in the form that LSF's `bjobs` prints.
    """
    for scheduler in SCHEDULERS:
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


RUN_ID_VARIABLE = b"EMISSIONS_RUN_ID"
JOB_ID_VARIABLE = b"EMISSIONS_JOB_ID"
RUN_NAME_VARIABLE = b"EMISSIONS_RUN_NAME"
LABELS_VARIABLE = b"EMISSIONS_LABELS"
TRACKER_ID_VARIABLES = (b"MLFLOW_RUN_ID", b"WANDB_RUN_ID", b"TORCHELASTIC_RUN_ID")
"""Run ids set by experiment trackers and launchers, in order of precedence."""

ID_MARKERS = (b"EMISSIONS_", b"_RUN_ID=", b"JOB_ID=", b"JOBID=")
"""Every environment with an id contains one of these; a quick check, as most have none."""

MAX_ID_BYTES = 128
MAX_LABELS = 32
MAX_LABELS_BYTES = 2048
"""Limit for the names and values of all labels of a run together."""
OTHER_RUN_ID = "other"
"""Reserved for the runs beyond `max_runs`."""


class RunClaim(NamedTuple):
    """The run that an environment declares for its process."""

    run_id: str
    job_id: str = ""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    account: str = ""
    origin: str = "environment"
    """`environment`, or the name of the scheduler if only its job id is known."""


def claim_from_environment(block: bytes, *, with_jobs: bool = True) -> RunClaim | None:
    """Parse the claim of an environment block (NUL-separated `NAME=value`), or None.

    A job id alone identifies a run too; a scheduler's job id is used only `with_jobs`. Launchers
    write `none` for "no id".
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
    """Make a text valid as an id or label value: one bounded line of printable text.

    Control, format and unassigned characters become spaces. A text over 128 bytes is truncated and
    ends in a hash of all of it, so that different long ids remain different.
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
    """Sanitize pairs as the labels of a run: sorted, each name once, within the limits.

    The limits are 32 labels, and 2 KiB for their names and values together.
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


def sanitize_run(run: RunInfo) -> RunInfo:
    """Sanitize the texts and labels with which a caller described a run, except its key."""
    fields = run._asdict()
    texts = {field: sanitize(text) for field, text in fields.items() if isinstance(text, str)}
    return RunInfo(**{**fields, **texts, "labels": sanitize_labels(run.labels)})


def _variable(block: bytes, name: bytes) -> bytes:
    """A variable's value, by the rule of getenv(3); empty if unset."""
    _, _, rest = (b"\0" + block).partition(b"\0" + name + b"=")
    return rest.partition(b"\0")[0]


def _tracking_id(block: bytes) -> str:
    for name in TRACKER_ID_VARIABLES:
        value = sanitize(_variable(block, name))
        if value and value != "none":
            return value
    return ""
