"""Blocking client of the daemon's agent API over a UNIX socket; standard library only."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.sockets import configured_socket, connect, default_sockets, untrusted_reason

RUNS_PER_PAGE = 1000
"""Maximum number of records in one response."""
TIMEOUT_SECONDS = 10.0
"""For a response; a daemon that is busy refuses a request after 5 seconds."""
HANGING_TIMEOUT_SECONDS = 1.0
"""For a response of a daemon that did not send the last one in time, so that one that hangs does
not cost the program the whole timeout again and again."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path
        self._timeout_seconds = timeout_seconds

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = connect(self._path, self._timeout_seconds)


class AgentClient:
    """Client of the daemon at `path`, at the socket in the environment, or at a default socket.

    Of the default sockets, the first that answers is used. Every method raises AgentUnreachable,
    and AgentRefusal with the daemon's error message.
    """

    _hanging: ClassVar[set[str]] = set()
    """Sockets of daemons that did not send the last response in time."""

    def __init__(self, path: str = "", timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._named = configured_socket(path)
        self._timeout = timeout_seconds

    def start(self, **run: Any) -> dict[str, Any]:
        """Register this process as a run; return its record."""
        wanted = {key: value for key, value in run.items() if value not in (None, "", {})}
        return self._request("POST", "/v1/runs", wanted)

    def log(self, run_id: str, job_id: str | None, **update: Any) -> dict[str, Any]:
        """Add `values`, `count` and `progress` to a run; return its record."""
        return self._request(
            "POST", f"/v1/runs/{_quoted(run_id)}/log", {"job_id": job_id, **update}
        )

    def end(self, run_id: str, job_id: str) -> dict[str, Any]:
        """End a run of this user; return its final record."""
        return self._request("POST", f"/v1/runs/{_quoted(run_id)}/end", {"job_id": job_id})

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        """Return the current record of a run."""
        query = f"?job_id={_quoted(job_id)}" if job_id is not None else ""
        return self._request("GET", f"/v1/runs/{_quoted(run_id)}{query}")

    def runs(
        self, since: float = 0.0, limit: int | None = None, /, **wanted: str | None
    ) -> list[dict[str, Any]]:
        """Return records of the runs that match, newest first.

        `wanted` filters by `run_id`, `job_id`, `user`, `group`, `namespace` or `account`. At most
        `limit` runs are returned, and not all of those that started before `since`, a wall-clock
        time in seconds.
        """
        found: list[dict[str, Any]] = []
        after: str | None = None
        while True:
            left = RUNS_PER_PAGE if limit is None else limit - len(found)
            answer = self._list({**wanted, "after": after}, min(left, RUNS_PER_PAGE))
            found += answer["runs"]
            after = answer.get("next")
            is_enough = limit is not None and len(found) >= limit
            if after is None or is_enough or found[-1]["started"] < since:
                return found

    def inside(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return records of the runs that started directly inside the run with this record."""
        return self.runs(inside=run["run_id"], inside_job_id=run["job_id"])

    def aggregate_runs(self, by: str, since: float, **wanted: str | None) -> dict[str, Any]:
        """Return records of published runs started at `since` or later, and sums of the others.

        Sums are by `job`, `group`, `user`, `namespace` or `account`. `since` is a wall-clock time
        in seconds.
        """
        answer = self._list({**wanted, "by": by, "since": repr(since)})
        return {"sums": [], **answer}

    def _list(self, wanted: Mapping[str, str | None], limit: int = RUNS_PER_PAGE) -> dict[str, Any]:
        query = "".join(f"&{k}={_quoted(text)}" for k, text in wanted.items() if text is not None)
        answer = self._request("GET", f"/v1/runs?limit={limit}{query}")
        if "next" not in answer and len(answer["runs"]) >= RUNS_PER_PAGE:
            raise AgentRefusal(
                http.client.NOT_IMPLEMENTED,
                f"the daemon is older than this program and lists only {RUNS_PER_PAGE} runs, so "
                "sums would be incomplete; restart the daemon",
            )
        for name in ("namespace", "account"):
            if (answer.get(name) or None) != (wanted.get(name) or None):
                raise AgentRefusal(
                    http.client.NOT_IMPLEMENTED,
                    f"the daemon is older than this program and does not filter runs by {name}; "
                    "restart the daemon",
                )
        return answer

    def import_runs(self, origin: str, runs: list[dict[str, Any]]) -> dict[str, int]:
        """Import runs measured by another tool; return how many are `new`, `changed`, `known`."""
        return self._request("POST", "/v1/history", {"origin": origin, "runs": runs})

    def ledger_id(self) -> str:
        """Return the id of the daemon's ledger; "" if the daemon does not report it."""
        try:
            return str(self._request("GET", "/v1/ledger").get("ledger_id", ""))
        except (AgentRefusal, AgentUnreachable):
            return ""

    def intensity(self) -> dict[str, Any]:
        """Return the grid intensity in force, its history, its forecast and its sources."""
        return self._request("GET", "/v1/intensity")

    def _request(
        self, method: str, target: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        failures = []
        for path in [self._named] if self._named else default_sockets():
            reason = "" if self._named else untrusted_reason(path)
            if reason:
                failures.append(f"{path}: not used: {reason}")
                continue
            try:
                status, answer = self._exchange(path, method, target, body)
            # The length or the nesting of another program's answer raises the last two.
            except (
                *(OSError, http.client.HTTPException, ValueError),
                *(OverflowError, RecursionError),
            ) as error:
                failures.append(f"{path}: {getattr(error, 'strerror', None) or error}")
                continue
            if status >= http.client.BAD_REQUEST:
                raise AgentRefusal(status, str(answer.get("error", f"HTTP status {status}")))
            return answer
        raise AgentUnreachable("; ".join(failures))

    def _exchange(
        self, path: str, method: str, target: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and document of the response; ValueError if it is not JSON of a daemon."""
        longest = HANGING_TIMEOUT_SECONDS if path in self._hanging else self._timeout
        connection = UnixConnection(path, min(longest, self._timeout))
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except TimeoutError:
            self._hanging.add(path)
            raise
        finally:
            connection.close()
        self._hanging.discard(path)
        if not isinstance(answer, dict):
            raise ValueError("unexpected response: not a JSON object")  # noqa: TRY004  of the content
        return response.status, answer


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="", errors="surrogateescape")


T = TypeVar("T")
RETRY_TIMEOUT_SECONDS = 10.0
RETRY_INTERVAL_SECONDS = 0.2
TOO_MANY_REQUESTS, UNAVAILABLE, NOT_FOUND = 429, 503, 404
OTHER_RUN_ID = "other"
"""Reserved id of the run in which the daemon sums all runs beyond attribute.max_runs."""


def register_with_retry(begin: Callable[[], T]) -> T:
    """Call `begin`, and retry while the daemon's rate limit rejects it.

    Raises AgentRefusal and AgentUnreachable.
    """
    deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
    while True:
        try:
            return begin()
        except AgentRefusal as refusal:
            if refusal.status != TOO_MANY_REQUESTS or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL_SECONDS)


def end_with_retry(
    agent: AgentClient, run_id: str, job_id: str, deadline: float | None = None
) -> dict[str, Any]:
    """End a run and return its final record, also if it has already ended.

    Retries until `deadline`, a time of the monotonic clock, with at least one attempt.

    Raises AgentRefusal and AgentUnreachable.
    """
    if deadline is None:
        deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
    while True:
        try:
            return agent.end(run_id, job_id)
        except AgentRefusal as refusal:
            if refusal.status == NOT_FOUND:
                return _final_record(agent, run_id, job_id, refusal)
            if (
                refusal.status not in (TOO_MANY_REQUESTS, UNAVAILABLE)
                or time.monotonic() > deadline
            ):
                raise
        except AgentUnreachable:
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_INTERVAL_SECONDS)


def _final_record(
    agent: AgentClient, run_id: str, job_id: str, refusal: AgentRefusal
) -> dict[str, Any]:
    """Return the record of a run that another process, or a lost request, has already ended."""
    final = agent.run(run_id, job_id)
    if final["ended"] is None:
        raise refusal
    return final
