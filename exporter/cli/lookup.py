"""Find a run by what a person calls it: its id, else its name."""

import sys
from http import HTTPStatus
from typing import Any

from exporter.client.agent import Agent
from exporter.client.errors import AgentRefusal

MOST_NAMED = 5
"""Ids in the note about a name that several runs have."""


def find(agent: Agent, run: str, job_id: str | None = None) -> dict[str, Any]:
    """The record of the run with that id, else of the newest with that name, and a note of others.

    Raises AgentRefusal where there is neither.
    """
    try:
        return agent.run(run, job_id)
    except AgentRefusal as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        named = [each for each in agent.runs(job_id=job_id) if each.get("name") == run]
        if not named:
            raise
    newest, *others = named
    if others:
        ids = ", ".join(each["run_id"] for each in others[:MOST_NAMED])
        more = ", ..." if len(others) > MOST_NAMED else ""
        print(
            f"emissions-exporter: {len(named)} runs are named {run!r:.200}; this is the newest, "
            f"{newest['run_id']}. Name another one by its id: {ids}{more}",
            file=sys.stderr,
        )
    return newest


def is_called(record: Any, run: str) -> bool:
    """Whether a run has that id or that name."""
    return bool(run) and run in (record["run_id"], record.get("name"))
