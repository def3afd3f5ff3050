"""Talking to a daemon over its socket: small, blocking, standard library only."""

import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.sockets import configured_socket, default_sockets, untrusted_reason

RUNS_PER_PAGE = 1000
"""Records in one answer, at most."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class AgentClient:
    """One daemon: the one at `path` or at the socket of the environment, else the first found.

    Every call raises AgentUnreachable, and AgentRefusal with the daemon's own words.
    """

    def __init__(self, path: str = "", timeout_seconds: float = 10.0) -> None:
        self._named = configured_socket(path)
        self._timeout = timeout_seconds

    def start(self, **run: Any) -> dict[str, Any]:
        """Register this process as a run; the answer is its record."""
        wanted = {key: value for key, value in run.items() if value not in (None, "", {})}
        return self._ask("POST", "/v1/runs", wanted)

    def log(self, run_id: str, job_id: str | None, **said: Any) -> dict[str, Any]:
        """Add `values`, `count` and `progress` to a run; the answer is its record."""
        return self._ask("POST", f"/v1/runs/{_quoted(run_id)}/log", {"job_id": job_id, **said})

    def end(self, run_id: str, job_id: str) -> dict[str, Any]:
        """End a run of this user; the answer is its final record."""
        return self._ask("POST", f"/v1/runs/{_quoted(run_id)}/end", {"job_id": job_id})

    def run(self, run_id: str, job_id: str | None = None) -> dict[str, Any]:
        """A run's record as it stands now."""
        query = f"?job_id={_quoted(job_id)}" if job_id is not None else ""
        return self._ask("GET", f"/v1/runs/{_quoted(run_id)}{query}")

    def runs(self, limit: int | None = None, **wanted: str | None) -> list[dict[str, Any]]:
        """Records of all runs, newest first.

        Only of a `run_id`, `job_id`, `user`, `group` or `namespace`, where one is given.

        With `limit` no more than that, and no more than a daemon lists at once.
        """
        found: list[dict[str, Any]] = []
        place: str | None = None
        while True:
            answer = self._list({**wanted, "after": place}, limit)
            found += answer["runs"]
            place = answer.get("next")
            if limit is not None or place is None:
                return found

    def inside(self, run_id: str) -> list[dict[str, Any]]:
        """Records of the runs that began directly inside another one."""
        return self.runs(inside=run_id)

    def aggregate_runs(self, by: str, since: float, **wanted: str | None) -> dict[str, Any]:
        """Runs that began at `since` or later: records of those on the page, and sums of the rest.

        Sums are by `job`, `group`, `user` or `namespace`.
        """
        answer = self._list({**wanted, "by": by, "since": repr(since)})
        return {"sums": [], **answer}

    def _list(self, wanted: Mapping[str, str | None], limit: int | None = None) -> dict[str, Any]:
        asked = "".join(f"&{k}={_quoted(text)}" for k, text in wanted.items() if text is not None)
        answer = self._ask("GET", f"/v1/runs?limit={limit or RUNS_PER_PAGE}{asked}")
        if limit is None and "next" not in answer and len(answer["runs"]) >= RUNS_PER_PAGE:
            raise AgentRefusal(
                http.client.NOT_IMPLEMENTED,
                f"the daemon is older than this program and lists only {RUNS_PER_PAGE} runs, so "
                "that sums would lack the others; restart it",
            )
        if (answer.get("namespace") or None) != (wanted.get("namespace") or None):
            raise AgentRefusal(
                http.client.NOT_IMPLEMENTED,
                "the daemon is older than this program and does not select runs by namespace; "
                "restart it",
            )
        return answer

    def import_runs(self, origin: str, runs: list[dict[str, Any]]) -> dict[str, int]:
        """Put runs into the ledger that another tool measured; how many are new, changed, known."""
        return self._ask("POST", "/v1/history", {"origin": origin, "runs": runs})

    def ledger_id(self) -> str:
        """The id of the ledger in which the daemon keeps its runs; "" where it does not say."""
        try:
            return str(self._ask("GET", "/v1/ledger").get("ledger_id", ""))
        except (AgentRefusal, AgentUnreachable):
            return ""

    def intensity(self) -> dict[str, Any]:
        """The grid intensity in force, its past, its forecast and its sources."""
        return self._ask("GET", "/v1/intensity")

    def _ask(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        tried = []
        for path in [self._named] if self._named else default_sockets():
            why = "" if self._named else untrusted_reason(path)
            if why:
                tried.append(f"{path}: not used: {why}")
                continue
            try:
                status, answer = self._exchange(path, method, target, body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                tried.append(f"{path}: {getattr(error, 'strerror', None) or error}")
                continue
            if status >= http.client.BAD_REQUEST:
                raise AgentRefusal(status, str(answer.get("error", f"HTTP status {status}")))
            return answer
        raise AgentUnreachable("; ".join(tried))

    def _exchange(
        self, path: str, method: str, target: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        """Status and document of the answer; ValueError if it is none of a daemon."""
        connection = UnixConnection(path, self._timeout)
        try:
            connection.request(method, target, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if not isinstance(answer, dict):
            raise ValueError("the answer is not one of this daemon")  # noqa: TRY004  of the content
        return response.status, answer


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="", errors="surrogateescape")


T = TypeVar("T")
RETRY_TIMEOUT_SECONDS = 10.0
RETRY_INTERVAL_SECONDS = 0.2
TOO_MANY_REQUESTS, UNAVAILABLE, NOT_FOUND = 429, 503, 404
OTHER_RUN_ID = "other"
"""Id of what the daemon counts together when it shows as many runs as it may; nobody else's."""


def register_with_retry(begin: Callable[[], T]) -> T:
    """Begin a run; where this user begins many at once, it is given some time.

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
    """End a run; the answer is its last record, also where it has ended already.

    `deadline` is when to give up, of the monotonic clock, after one try at least.

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
    """The record of a run that has ended: by another hand, or the answer was lost."""
    final = agent.run(run_id, job_id)
    if final["ended"] is None:
        raise refusal
    return final
