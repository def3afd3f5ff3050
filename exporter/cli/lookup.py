"""Find a run by what a person calls it: its id, else its name."""

import sys
from http import HTTPStatus
from typing import Any

from exporter.cli.history import Runs
from exporter.client.errors import AgentRefusal

MOST_NAMED = 5
"""Ids in the note about a name that several runs have."""


def find(known: Runs, run: str, job_id: str | None = None) -> dict[str, Any]:
    """The record of the run with that id, else of the newest with that name.

    Other runs with the name are listed on standard error. Raises AgentRefusal where there is none.
    """
    try:
        return known.run(run, job_id)
    except AgentRefusal as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        named = [each for each in known.runs(job_id=job_id) if each.get("name") == run]
        if not named:
            raise
    newest, *others = named
    if others:
        ids = ", ".join(each["run_id"] for each in others[:MOST_NAMED])
        more = ", ..." if len(others) > MOST_NAMED else ""
        print(
            f"emissions-exporter: {len(named)} runs are named {run!r:.200}; this is the newest, "
            f"{newest['run_id']}. The ids of the others: {ids}{more}",
            file=sys.stderr,
        )
    return newest
