"""Requests to the daemon: HTTP, query parameters, bodies of the agent socket; its answers."""

import http.client
from contextlib import suppress

from exporter.cli import healthcheck
from exporter.client import agent_client
from exporter.client.agent_client import AgentClient
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.errors import RequestRefused
from exporter.expose.api import read_api, request_bodies
from exporter.expose.http import http1
from exporter.expose.web_config.basic_auth import parse_credentials
from exporter.model.record import RunFilter
from tests.fuzz.inputs import NOW, AnsweredConnection, replaced

MAX_BODY_BYTES = 64 * 1024


def http_request(data: bytes) -> None:
    """Head and body of a request, and what the routes do with each part."""
    head, end, body = data.partition(http1.HEAD_END)
    with suppress(RequestRefused):
        request = http1.parse_head(head + end)
        http1.body_length(request, MAX_BODY_BYTES)
        http1.prefers_openmetrics(request.headers.get("accept", ""))
        http1.accepts_gzip(request.headers.get("accept-encoding", ""))
        parse_credentials(request.headers.get("authorization", ""))
        http1.path_child(request.path, "/api/v1/runs")
        error = RequestRefused(404, f"unknown path {request.path}: {body[:20]!r}")
        http1.render_head(http1.error_response(error), NOW, keep_alive=request.keep_alive)


def query_parameters(data: bytes) -> None:
    """The query of a list of runs or of a series."""
    head = b"GET /api/v1/runs?" + data.replace(b" ", b"+") + b" HTTP/1.0" + http1.HEAD_END
    with suppress(RequestRefused):
        query = http1.parse_head(head).query
        for parse in (read_api._parse_limit, read_api._parse_cursor):
            with suppress(RequestRefused):
                parse(query)
        with suppress(RequestRefused):
            read_api._parse_time(query, "since", 0.0)
        with suppress(RequestRefused):
            read_api._parse_sums(read_api.query_value(query, "by") or "")
        RunFilter.of({name: read_api.query_value(query, name) for name in ("user", "job_id")})


def agent_body(data: bytes) -> None:
    """Bodies that start, update and end a run."""
    for parse in (request_bodies.parse_start, request_bodies.parse_log, request_bodies.parse_end):
        with suppress(RequestRefused):
            parse(data)


def agent_import(data: bytes) -> None:
    """Body that imports runs."""
    with suppress(RequestRefused):
        request_bodies.parse_import(data, "ada")


def daemon_answer(data: bytes) -> None:
    """The answer of a daemon, or of another program on its socket, to the client."""
    with (
        replaced(agent_client, "UnixConnection", lambda *_: AnsweredConnection(data)),
        suppress(AgentRefusal, AgentUnreachable),
    ):
        AgentClient("/nowhere").run("bert")


def health_answer(data: bytes) -> None:
    """The answer to the health check."""
    with suppress(OSError, http.client.HTTPException):
        healthcheck._exchange(AnsweredConnection(data))


TARGETS = (http_request, query_parameters, agent_body, agent_import, daemon_answer, health_answer)
