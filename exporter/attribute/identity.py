"""Which run a process says it belongs to, by its environment; and what ids may look like."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from exporter.attribute.schedulers import job_of

RUN_ID = b"EMISSIONS_RUN_ID"
JOB_ID = b"EMISSIONS_JOB_ID"
RUN_NAME = b"EMISSIONS_RUN_NAME"
LABELS = b"EMISSIONS_LABELS"
TRACKING_IDS = (b"MLFLOW_RUN_ID", b"WANDB_RUN_ID", b"TORCHELASTIC_RUN_ID")
"""Ids that experiment trackers and launchers give to a run, best first."""

MARKS = (b"EMISSIONS_", b"_RUN_ID=", b"JOB_ID=", b"JOBID=")
"""One of them is in every environment that has an id; most have none."""

ID_BYTES = 128
MAX_LABELS = 32
LABELS_BYTES = 2048
"""Of the names and values of all labels of a run together."""
OTHER_ID = "other"
"""Reserved for the runs beyond the cap."""


class Claim(NamedTuple):
    """What an environment says of the run that its process belongs to."""

    run_id: str
    job_id: str = ""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    account: str = ""
    origin: str = "environment"
    """How the run is known: by itself, or by the scheduler whose job it is."""


def claim_of(block: bytes, *, with_jobs: bool = True) -> Claim | None:
    """The claim in an environment block (`NAME=value`, NUL between), or None.

    A job id alone names the run as well; that of a scheduler counts `with_jobs` only. `none` is
    what launchers write for "no id".
    """
    if not any(mark in block for mark in MARKS):
        return None

    def variable(name: bytes) -> str:
        return clean(_variable(block, name))

    job = job_of(variable) if with_jobs else None
    own_job_id = variable(JOB_ID)
    job_id = own_job_id or (job.job_id if job is not None else "")
    own_id = variable(RUN_ID) or _tracking_id(block) or own_job_id
    if not own_id and job is None:
        return None
    parts = _variable(block, LABELS).split(b",", MAX_LABELS)[:MAX_LABELS]
    labels = clean_labels(part.split(b"=", 1) for part in parts if b"=" in part)
    name = variable(RUN_NAME)
    if job is None:
        return Claim(own_id, job_id, name, labels)
    origin = "environment" if own_id else job.scheduler
    labels = clean_labels((*job.labels, *labels))
    return Claim(own_id or job_id, job_id, name or job.name, labels, job.account, origin)


def clean(text: bytes | str) -> str:
    """An id or label value fit for a label: one line of valid, printable text, bounded.

    Every control, format and unassigned character becomes a space. One that is longer than 128
    bytes is cut, and ends in a hash of the whole so that two long ids stay two.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    raw = text.encode("utf-8")
    if len(raw) <= ID_BYTES:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:12]
    return raw[: ID_BYTES - 13].decode("utf-8", "ignore") + "-" + digest


def clean_labels(pairs: Iterable[Sequence[bytes | str]]) -> tuple[tuple[str, str], ...]:
    """Pairs as the labels of a run, sorted, each name once; what is beyond the bounds is left out.

    The bounds are 32 labels, and 2 KiB for their names and values together.
    """
    kept: dict[str, str] = {}
    room = LABELS_BYTES
    for dirty_name, dirty_value in islice(pairs, MAX_LABELS):
        name, value = clean(dirty_name), clean(dirty_value)
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
    for name in TRACKING_IDS:
        value = clean(_variable(block, name))
        if value and value != "none":
            return value
    return ""
