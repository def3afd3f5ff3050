"""HTTP/1.1 messages: parsing of request heads, rendering of responses, content negotiation.

Follows RFC 9112 strictly: anything that two servers might parse differently is rejected.
"""

import json
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from exporter.errors import RequestRefused

READ_METHODS = ("GET", "HEAD")
HEAD_END = b"\r\n\r\n"
JSON_TYPE = "application/json"
PLAIN_TYPE = "text/plain; charset=utf-8"

REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.([01])")
HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
RETRY_AFTER = {HTTPStatus.SERVICE_UNAVAILABLE: "1", HTTPStatus.TOO_MANY_REQUESTS: "1"}
"""In seconds: the next tick, and the next second of a rate limit."""
FIXED_HEADERS = (
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
)
DEFAULT_CONTENT_SECURITY_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""The content security policy of all responses except the live page."""


class PeerCredentials(NamedTuple):
    """The peer of a UNIX socket, as reported by the kernel."""

    uid: int
    pid: int
    """In the daemon's pid namespace; 0 if the process is not visible in it."""


class HttpRequest(NamedTuple):
    """A parsed request."""

    method: str
    path: str
    """Without the query, percent-encoded as sent."""
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """By lower-case name."""
    keep_alive: bool
    body: bytes = b""
    peer: PeerCredentials | None = None


class HttpResponse(NamedTuple):
    """A response."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = DEFAULT_CONTENT_SECURITY_POLICY


def parse_head(head: bytes) -> HttpRequest:
    """Parse the head of a request. Raises RequestRefused(400)."""
    line, *rest = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RequestRefused(400, "the request line is not `METHOD /path HTTP/1.1`")
    method, target, minor = match.groups()
    headers: dict[str, str] = {}
    for text in rest:
        header = HEADER.fullmatch(text)
        if header is None:
            raise RequestRefused(400, "a header line is not `Name: value`")
        name, value = header[1].lower(), header[2].rstrip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if minor == "1" and "host" not in headers:
        raise RequestRefused(400, "HTTP/1.1 requires a Host header")
    path, _, query = target.partition("?")
    close = minor == "0" or "close" in _tokens(headers.get("connection", ""))
    return HttpRequest(method, path, parse_qs(query, keep_blank_values=True), headers, not close)


def body_length(request: HttpRequest, most: int) -> int:
    """Return the length of the body in bytes. Raises RequestRefused."""
    if "transfer-encoding" in request.headers:
        raise RequestRefused(501, "Transfer-Encoding is not supported; send Content-Length")
    text = request.headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise RequestRefused(400, "Content-Length is not a number")
    length = int(text)
    if length > most:
        raise RequestRefused(413, f"the body has {length} bytes; the limit is {most}")
    return length


def render_head(response: HttpResponse, wall: float, *, keep_alive: bool) -> bytes:
    """Render everything before the body; `wall` is the time in seconds since the Unix epoch."""
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(wall))
    status = HTTPStatus(response.status)
    lines = [
        f"HTTP/1.1 {response.status} {status.phrase}",
        f"Date: {date}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        f"Content-Security-Policy: {response.policy}",
        *[f"{name}: {value}" for name, value in response.headers],
    ]
    if status in RETRY_AFTER:
        lines.append(f"Retry-After: {RETRY_AFTER[status]}")
    if not keep_alive:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n" + FIXED_HEADERS + "\r\n").encode("latin-1")


def json_bytes(value: object) -> bytes:
    """Encode a JSON document. Integers stay exact."""
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def json_response(value: object, status: int = 200) -> HttpResponse:
    """Build a response with a JSON document."""
    return HttpResponse(status, json_bytes(value), JSON_TYPE)


def error_response(error: RequestRefused, *headers: tuple[str, str]) -> HttpResponse:
    """Build an error response with a JSON document."""
    return json_response({"error": str(error)}, error.status)._replace(headers=headers)


def method_not_allowed(allowed: tuple[str, ...]) -> HttpResponse:
    """Build the response to an unsupported method."""
    methods = ", ".join(allowed)
    return error_response(
        RequestRefused(405, f"method not allowed; allowed are {methods}"), ("Allow", methods)
    )


def path_child(path: str, parent: str) -> str | None:
    """Return the decoded path segment after `parent/`; None unless it is exactly one.

    Raises RequestRefused(400).
    """
    above, _, name = path.rpartition("/")
    if above != parent or not name:
        return None
    try:
        return unquote(name, errors="strict")
    except UnicodeDecodeError:
        raise RequestRefused(400, "the path is not valid UTF-8") from None


def prefers_openmetrics(accept: str) -> bool:
    """Whether OpenMetrics is preferred to text; of equal weights the first one takes precedence."""
    best, chosen = 0.0, False
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        is_openmetrics = media == "application/openmetrics-text"
        if is_openmetrics and "version=0.0.1" in parameters:
            continue
        weight = _weight(parameters)
        if (is_openmetrics or media in ("text/plain", "text/*", "*/*")) and weight > best:
            best, chosen = weight, is_openmetrics
    return chosen


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether the response may be compressed with gzip."""
    for item in accept_encoding.split(","):
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        if coding == "gzip":
            return _weight(parameters) > 0
    return False


def _weight(parameters: list[str]) -> float:
    """Return the quality value among the parameters of a header, RFC 9110 section 12.4.2."""
    for parameter in parameters:
        if match := re.fullmatch(r"q=([01](?:\.[0-9]{0,3})?)", parameter):
            return float(match[1])
    return 1.0


def _tokens(header: str) -> list[str]:
    return [token.strip().lower() for token in header.split(",")]
