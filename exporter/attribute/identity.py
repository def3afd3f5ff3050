"""Run and job ids from process environments, and the sanitizing of ids and labels."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from exporter.job_variables import (
    JOB_ID_VARIABLE,
    RUN_ID_VARIABLE,
    TRACKER_ID_VARIABLES,
    job_from_environment,
)
from exporter.model.runs import RunInfo

RUN_NAME_VARIABLE = "EMISSIONS_RUN_NAME"
LABELS_VARIABLE = "EMISSIONS_LABELS"
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

    def variable(name: str) -> str:
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


def _variable(block: bytes, name: str) -> bytes:
    """A variable's value, by the rule of getenv(3); empty if unset."""
    _, _, rest = (b"\0" + block).partition(b"\0" + name.encode() + b"=")
    return rest.partition(b"\0")[0]


def _tracking_id(block: bytes) -> str:
    for name in TRACKER_ID_VARIABLES:
        value = sanitize(_variable(block, name))
        if value and value != "none":
            return value
    return ""
