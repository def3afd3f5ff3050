"""Registration of a run with the node's daemon, the user's daemon, or a private one."""

import os
from itertools import count
from typing import Any, ClassVar

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.log import warn
from exporter.client.sockets import configured_socket

SCOPE_REFUSED_STATUSES = (403, 409)


class Registration:
    """Registers, updates and ends one run. Methods raise AgentRefusal and AgentUnreachable."""

    _no_private: ClassVar[str] = ""
    """Why no private daemon can be started; tried only once, because a failure takes seconds."""

    def __init__(
        self,
        request: dict[str, Any],
        socket: str,
        *,
        may_start: bool,
        repeats: bool | None = None,
    ) -> None:
        """Store the request.

        `repeats` says whether this is a restart of a launch with a derived id; see `is_restart`.
        """
        self.request = request
        self._repeats = repeats
        self._socket = socket
        self._may_start = may_start and not configured_socket(socket)

    def register(self) -> dict[str, Any]:
        """Register the run, or register it again; return its record."""
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
                "the daemon has reached attribute.max_runs of its settings file: the energy of "
                f"this run is counted in run `{OTHER_RUN_ID}` and not reported separately"
            )
        for name in ("run_id", "job_id"):  # the same ids if it has to be registered again
            self.request[name] = self.request.get(name) or record[name]
        return record

    def send_update(self, run_id: str, job_id: str, update: dict[str, Any]) -> dict[str, Any]:
        """Send an update of the run unless it is empty; return the run's record."""
        from exporter.client.agent_client import AgentClient

        agent = AgentClient(self._socket)
        return agent.log(run_id, job_id, **update) if update else agent.run(run_id, job_id)

    def end(self, run_id: str, job_id: str, deadline: float) -> dict[str, Any]:
        """End the run; return its final record. `deadline` is a time of the monotonic clock."""
        from exporter.client import agent_client
        from exporter.client.agent_client import AgentClient

        return agent_client.end_with_retry(AgentClient(self._socket), run_id, job_id, deadline)

    def _choose_id(self) -> None:
        """Append a number to the derived id if a launch with this id has already ended.

        All ranks choose the same number, and so does a restarted rank.
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
        """Request the run; if scope `machine` is refused, with scope `tree`."""
        from exporter.client.agent_client import AgentClient, register_with_retry

        self._choose_id()

        def request() -> dict[str, Any]:
            return register_with_retry(lambda: AgentClient(self._socket).start(**self.request))

        try:
            return request()
        except AgentRefusal as refusal:
            if (
                self.request.get("scope") != "machine"
                or refusal.status not in SCOPE_REFUSED_STATUSES
            ):
                raise
            warn(
                "scope machine was refused, this tracker measures only its own processes "
                "(scope tree): %s",
                str(refusal).partition("; use scope tree")[0],
            )
            self.request["scope"] = "tree"
            return request()

    def _start_private(self) -> None:
        from exporter.client import private_daemon

        if self._no_private:
            raise AgentUnreachable(self._no_private)
        try:
            private_daemon.start_private_daemon(os.environ)
        except AgentUnreachable as error:
            Registration._no_private = str(error)
            raise
