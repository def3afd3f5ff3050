"""Which run a process says it belongs to, by its environment; and what ids may look like."""

import hashlib
from typing import NamedTuple

RUN_ID = b"EMISSIONS_RUN_ID"
JOB_ID = b"EMISSIONS_JOB_ID"
RUN_NAME = b"EMISSIONS_RUN_NAME"
LABELS = b"EMISSIONS_LABELS"
TRACKING_IDS = (b"MLFLOW_RUN_ID", b"WANDB_RUN_ID", b"TORCHELASTIC_RUN_ID")
"""Ids that experiment trackers and launchers give to a run, best first."""

ID_BYTES = 128
OTHER_ID = "other"
"""Reserved for the runs beyond the cap."""


class Claim(NamedTuple):
    """What an environment says of the run that its process belongs to."""

    run_id: str
    job_id: str = ""
    name: str = ""
    labels: tuple[tuple[str, str], ...] = ()


def claim_of(block: bytes) -> Claim | None:
    """The claim in an environment block (`NAME=value`, NUL between), or None.

    A job id alone names the run as well. `none` is what launchers write for "no id".
    """
    if b"EMISSIONS_" not in block and b"_RUN_ID=" not in block:
        return None
    variables = dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)
    job_id = clean(variables.get(JOB_ID, b""))
    run_id = clean(variables.get(RUN_ID, b"")) or _tracking_id(variables) or job_id
    if not run_id:
        return None
    return Claim(
        run_id, job_id, clean(variables.get(RUN_NAME, b"")), _labels(variables.get(LABELS, b""))
    )


def clean(text: bytes | str) -> str:
    """An id or label value fit for a label: valid, without control characters, bounded.

    One that is longer than 128 bytes is cut, and ends in a hash of the whole so that two long
    ids stay two.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text).strip()
    raw = text.encode("utf-8")
    if len(raw) <= ID_BYTES:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:12]
    return raw[: ID_BYTES - 13].decode("utf-8", "ignore") + "-" + digest


def _tracking_id(variables: dict[bytes, bytes]) -> str:
    for name in TRACKING_IDS:
        value = clean(variables.get(name, b""))
        if value and value != "none":
            return value
    return ""


def _labels(text: bytes) -> tuple[tuple[str, str], ...]:
    """`team=nlp,stage=eval` as sorted pairs; parts without `=` are left out."""
    pairs = (part.split(b"=", 1) for part in text.split(b",") if b"=" in part)
    return tuple(sorted((clean(name), clean(value)) for name, value in pairs if name.strip()))
