"""One run with a daemon: the node's, the user's, or one that is started for it."""

import os
from itertools import count
from typing import Any, ClassVar

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.sockets import named_socket
from exporter.client.words import warn

REFUSALS_OF_SCOPE = (403, 409)


class Registration:
    """How a run was asked for; everything here raises AgentRefusal and AgentUnreachable."""

    _no_private: ClassVar[str] = ""
    """Why none can be started. It is tried once, for it takes seconds to find out."""

    def __init__(
        self,
        asked: dict[str, Any],
        socket: str,
        *,
        may_start: bool,
        repeats: bool | None = None,
    ) -> None:
        """`repeats` is that of the launch, where the id is of its making."""
        self.asked = asked
        self._repeats = repeats
        self._socket = socket
        self._may_start = may_start and not named_socket(socket)

    def begin(self) -> dict[str, Any]:
        """Begin the run, or begin it again; the answer is its record."""
        from exporter.client.patience import FOLDED

        try:
            record = self._ask()
        except AgentUnreachable:
            if not self._may_start:
                raise
            self._start_private()
            record = self._ask()
        if record["run_id"] == FOLDED:
            raise AgentUnreachable(
                "the daemon shows as many runs as it may (attribute.max_runs in its settings "
                f"file); this one is counted in `{FOLDED}` and has no numbers of its own"
            )
        for name in ("run_id", "job_id"):  # should the daemon forget it, it gets the same again
            self.asked[name] = self.asked.get(name) or record[name]
        return record

    def say(self, run_id: str, job_id: str, said: dict[str, Any]) -> dict[str, Any]:
        """Send what the run was told, if anything; the answer is its record."""
        from exporter.client.agent import Agent

        agent = Agent(self._socket)
        return agent.log(run_id, job_id, **said) if said else agent.run(run_id, job_id)

    def end(self, run_id: str, job_id: str, deadline: float) -> dict[str, Any]:
        """End the run; the answer is its last record. `deadline` is of the monotonic clock."""
        from exporter.client import patience
        from exporter.client.agent import Agent

        return patience.end(Agent(self._socket), run_id, job_id, deadline)

    def _choose_id(self) -> None:
        """Leave a launch that has ended as it is: the next one with its id gets a number.

        Every rank finds the same one, and so does one that is begun again.
        """
        from exporter.client.agent import Agent

        agent, first, repeats = Agent(self._socket), self.asked["run_id"], self._repeats
        if repeats is None:
            return
        for number in count(2):
            try:
                record = agent.run(self.asked["run_id"], self.asked["job_id"])
            except AgentRefusal:
                break
            if record["ended"] is None:
                break
            last, self.asked["run_id"] = self.asked["run_id"], f"{first}-{number}"
            if repeats and not self._is_known(agent, self.asked["run_id"]):
                self.asked["run_id"] = last
                break
        self._repeats = None

    def _is_known(self, agent: Any, run_id: str) -> bool:
        try:
            agent.run(run_id, self.asked["job_id"])
        except AgentRefusal:
            return False
        return True

    def _ask(self) -> dict[str, Any]:
        """Ask for the run; where it may not have the whole machine, for this process's tree."""
        from exporter.client.agent import Agent
        from exporter.client.patience import start

        self._choose_id()

        def ask() -> dict[str, Any]:
            return start(lambda: Agent(self._socket).start(**self.asked))

        try:
            return ask()
        except AgentRefusal as refusal:
            if self.asked.get("scope") != "machine" or refusal.status not in REFUSALS_OF_SCOPE:
                raise
            warn("scope machine was refused, scope tree is taken: %s", refusal)
            self.asked["scope"] = "tree"
            return ask()

    def _start_private(self) -> None:
        from exporter.client import private

        if self._no_private:
            raise AgentUnreachable(self._no_private)
        try:
            private.start(os.environ)
        except AgentUnreachable as error:
            Registration._no_private = str(error)
            raise
