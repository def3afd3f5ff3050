"""Beginning and ending a run with a daemon that may be busy, or just restarting."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from exporter.client.agent import Agent
from exporter.client.errors import AgentRefusal, AgentUnreachable

T = TypeVar("T")
PATIENCE_SECONDS = 10.0
RETRY_SECONDS = 0.2
TOO_MANY, UNAVAILABLE, NOT_FOUND = 429, 503, 404
FOLDED = "other"
"""Id of what the daemon counts together when it shows as many runs as it may; nobody else's."""


def start(begin: Callable[[], T]) -> T:
    """Begin a run; where this user begins many at once, it is given some time.

    Raises AgentRefusal and AgentUnreachable.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return begin()
        except AgentRefusal as refusal:
            if refusal.status != TOO_MANY or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def end(agent: Agent, run_id: str, job_id: str, deadline: float | None = None) -> dict[str, Any]:
    """End a run; the answer is its last record, also where it has ended already.

    `deadline` is when to give up, of the monotonic clock, after one try at least.

    Raises AgentRefusal and AgentUnreachable.
    """
    if deadline is None:
        deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return agent.end(run_id, job_id)
        except AgentRefusal as refusal:
            if refusal.status == NOT_FOUND:
                return _ended(agent, run_id, job_id, refusal)
            if refusal.status not in (TOO_MANY, UNAVAILABLE) or time.monotonic() > deadline:
                raise
        except AgentUnreachable:
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)


def _ended(agent: Agent, run_id: str, job_id: str, refusal: AgentRefusal) -> dict[str, Any]:
    """The record of a run that has ended: by another hand, or the answer was lost."""
    final = agent.run(run_id, job_id)
    if final["ended"] is None:
        raise refusal
    return final
