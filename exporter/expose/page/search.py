"""Runs by words: which ones a person means, and where the page of one is."""

from collections.abc import Sequence
from urllib.parse import quote, urlencode

from exporter.model.runs import RunInfo

LONGEST = 200
DOTS = (".", "..")
"""Names that a browser takes for a way, however they are spelled in a path."""


def words_of(text: str) -> tuple[str, ...]:
    """What is searched for: every word must be found. In lower case, as scripts spell it."""
    return tuple(text[:LONGEST].lower().split())


def haystack(run: RunInfo) -> str:
    """Where words are looked for: id, job, name, user, namespace, account and labels."""
    labels = [f"{name}={value}" for name, value in run.labels]
    texts = (run.shown_id, run.key.job_id, run.name, run.user, run.namespace, run.account, *labels)
    return "\n".join(text for text in texts if text).lower()


def has_all(text: str, words: Sequence[str]) -> bool:
    """Whether all words are in a text."""
    return all(word in text for word in words)


def page_of(run_id: str, job_id: str) -> str:
    """The path of a run's page, from the first page on."""
    if run_id in DOTS:
        return "runs?" + _query(q=run_id)
    return f"runs/{quoted(run_id)}?{_query(job_id=job_id)}"


def receipt_of(run_id: str, job_id: str, form: str) -> str:
    """The path of a run's receipt in a form, from the first page on."""
    return f"runs/{quoted(run_id)}/receipt?{_query(form=form, job_id=job_id)}"


def quoted(name: str) -> str:
    """A name as one step of a path, slashes and percent signs included."""
    return quote(name, safe="", errors="replace")


def _query(**values: str) -> str:
    return urlencode(values, errors="replace")
