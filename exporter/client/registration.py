"""One run with a daemon: the node's, the user's, or one that is started for it."""

import os
from itertools import count
from typing import Any, ClassVar

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.log import warn
from exporter.client.sockets import configured_socket

SCOPE_REFUSED_STATUSES = (403, 409)


class Registration:
    """How a run was asked for; everything here raises AgentRefusal and AgentUnreachable."""

    _no_private: ClassVar[str] = ""
    """Why none can be started. It is tried once, for it takes seconds to find out."""

    def __init__(
        self,
        request: dict[str, Any],
        socket: str,
        *,
        may_start: bool,
        repeats: bool | None = None,
    ) -> None:
        """`repeats` is that of the launch, where the id is of its making."""
        self.request = request
        self._repeats = repeats
        self._socket = socket
        self._may_start = may_start and not configured_socket(socket)

    def register(self) -> dict[str, Any]:
        """Begin the run, or begin it again; the answer is its record."""
        from exporter.client.agent_client import OTHER_RUN_ID

        try:
            record = self._start_run()
        except AgentUnreachable:
            if not self._may_start:
                raise
            self._start_private()
            record = self._start_run()
        if record["run_id"] == OTHER_RUN_ID:
            raise AgentUnreachable(
                "the daemon shows as many runs as it may (attribute.max_runs in its settings "
                f"file); this one is counted in `{OTHER_RUN_ID}` and has no numbers of its own"
            )
        for name in ("run_id", "job_id"):  # should the daemon forget it, it gets the same again
            self.request[name] = self.request.get(name) or record[name]
        return record

    def send_update(self, run_id: str, job_id: str, said: dict[str, Any]) -> dict[str, Any]:
        """Send what the run was told, if anything; the answer is its record."""
        from exporter.client.agent_client import AgentClient

        agent = AgentClient(self._socket)
        return agent.log(run_id, job_id, **said) if said else agent.run(run_id, job_id)

    def end(self, run_id: str, job_id: str, deadline: float) -> dict[str, Any]:
        """End the run; the answer is its last record. `deadline` is of the monotonic clock."""
        from exporter.client import agent_client
        from exporter.client.agent_client import AgentClient

        return agent_client.end_with_retry(AgentClient(self._socket), run_id, job_id, deadline)

    def _choose_id(self) -> None:
        """Leave a launch that has ended as it is: the next one with its id gets a number.

        Every rank finds the same one, and so does one that is begun again.
        """
        from exporter.client.agent_client import AgentClient

        agent, first, repeats = AgentClient(self._socket), self.request["run_id"], self._repeats
        if repeats is None:
            return
        for number in count(2):
            try:
                record = agent.run(self.request["run_id"], self.request["job_id"])
            except AgentRefusal:
                break
            if record["ended"] is None:
                break
            last, self.request["run_id"] = self.request["run_id"], f"{first}-{number}"
            if repeats and not self._is_known(agent, self.request["run_id"]):
                self.request["run_id"] = last
                break
        self._repeats = None

    def _is_known(self, agent: Any, run_id: str) -> bool:
        try:
            agent.run(run_id, self.request["job_id"])
        except AgentRefusal:
            return False
        return True

    def _start_run(self) -> dict[str, Any]:
        """Ask for the run; where it may not have the whole machine, for this process's tree."""
        from exporter.client.agent_client import AgentClient, register_with_retry

        self._choose_id()

        def ask() -> dict[str, Any]:
            return register_with_retry(lambda: AgentClient(self._socket).start(**self.request))

        try:
            return ask()
        except AgentRefusal as refusal:
            if (
                self.request.get("scope") != "machine"
                or refusal.status not in SCOPE_REFUSED_STATUSES
            ):
                raise
            warn("scope machine was refused, scope tree is taken: %s", refusal)
            self.request["scope"] = "tree"
            return ask()

    def _start_private(self) -> None:
        from exporter.client import private_daemon

        if self._no_private:
            raise AgentUnreachable(self._no_private)
        try:
            private_daemon.start_private_daemon(os.environ)
        except AgentUnreachable as error:
            Registration._no_private = str(error)
            raise
